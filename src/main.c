/*
 * main: what every program does before it serves: options, configuration, folder, user.
 */
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/auth.h"
#include "lib/conf.h"
#include "lib/confine.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "lib/serve.h"
#include "lib/user.h"

#define DESCRIPTORS_MAX 65536

static void
usage(FILE *out)
{
	(void)fprintf(out,
	    "Usage: %s [--config FILE] [--listen ADDRESS:PORT] [--data DIR]\n"
	    "A program of caredesk, started by spawn-fcgi (see caredesk(1)) or as CGI.\n"
	    "  --watched  end with the process that started this\n"
	    "  --routes   list what it answers: method, path, roles\n"
	    "  --version  --help\n",
	    program.name);
}

/* Each connection, and each thread's one to every upstream, takes a descriptor: as many as are
 * allowed. */
static void
raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur =
		    limit.rlim_max < DESCRIPTORS_MAX ? limit.rlim_max : DESCRIPTORS_MAX;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* A heap a core: of the threads, most wait at any time (pool), and each heap keeps what it once
 * gave. */
static void
limit_heaps(void)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	(void)mallopt(M_ARENA_MAX, cores > 0 ? (int)cores : 1);
}

/* Who watches us ends us, too; killed, it cannot.  After user_become(), which takes it back. */
static enum err
end_with(pid_t watcher)
{
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || getppid() != watcher)
		return fail(ERR_INTERNAL, "who watches this program has ended");
	return OK;
}

/* The configuration is read before root is given up, and everything after that is relative to the
 * data folder, so that neither needs a path that only root may walk. */
static enum err
run(const struct conf_options *options, pid_t watcher)
{
	struct conf *conf;
	enum err err;

	if ((err = conf_load(options, &conf)) != OK)
		return err;
	(void)umask(0077);
	raise_descriptor_limit();
	limit_heaps();
	if (chdir(conf->data) != 0) {
		err = fail(ERR_INPUT, "data folder %s: %m", conf->data);
		goto done;
	}
	if ((err = user_become(conf->user)) != OK ||
	    (watcher != 0 && (err = end_with(watcher)) != OK))
		goto done;
	if (program.prepare != NULL && (err = program.prepare()) != OK)
		goto close;
	if ((err = confine_program(&program.needs, conf)) != OK)
		goto close;
	serve_hold_signals();
	if ((err = auth_open(conf)) != OK ||
	    (program.open != NULL && (err = program.open(conf)) != OK))
		goto close;
	err = serve(&program);
close:
	if (program.close != NULL)
		program.close();
	auth_close();
done:
	conf_close(conf);
	return err;
}

int
main(int argc, char **argv)
{
	static const struct option names[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "listen", required_argument, NULL, 'l' },
		{ "data", required_argument, NULL, 'd' },
		{ "watched", no_argument, NULL, 'w' },
		{ "routes", no_argument, NULL, 'r' },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct conf_options options = { 0 };
	pid_t parent = getppid(), watcher = 0;
	int option;

	log_open(program.name);
	metrics_open(program.name);
	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 'c':
			options.file = optarg;
			break;
		case 'l':
			options.listen = optarg;
			break;
		case 'd':
			options.data = optarg;
			break;
		case 'w':
			watcher = parent;
			break;
		case 'r':
			route_list(program.routes);
			return EXIT_SUCCESS;
		case 'v':
			(void)printf("%s %s\n", program.name, PACKAGE_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			usage(stdout);
			return EXIT_SUCCESS;
		default:
			usage(stderr);
			return EXIT_FAILURE;
		}
	}
	if (run(&options, watcher) == OK)
		return EXIT_SUCCESS;
	log_event(LOG_ERROR, "start_failed", "%s", err_words());
	return EXIT_FAILURE;
}
