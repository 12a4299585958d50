/*
 * caredesk: the operator's command.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "caredesk.h"
#include "lib/log.h"
#include "lib/upstream.h"
#include "lib/user.h"

/* An upstream as it will be opened, so that libcurl has its say about the URL. */
static enum err
check_upstream(const struct conf_upstream *item)
{
	const struct upstream_config config = {
		.name = item->name, .url = item->url, .ca_file = item->ca_file, .max_in_flight = 1
	};
	struct upstream *up;
	enum err err = upstream_open(&config, &up);

	upstream_close(up);
	return err;
}

enum err
check_usable(const struct conf_options *options, const struct conf *conf)
{
	const char *file = options->file != NULL ? options->file : CONF_FILE;
	struct user user;
	enum err err;

	for (size_t i = 0; i < conf->coalesce.upstreams.count; i++) {
		const struct conf_upstream *item = &conf->coalesce.upstreams.items[i];

		if ((err = check_upstream(item)) != OK)
			return fail(err, "%s:%d: %s", file, (int)item->line, err_words());
	}
	return geteuid() == 0 ? user_find(conf->user, &user) : OK;
}

static enum err
check_config(const struct conf_options *options)
{
	struct conf *conf;
	enum err err = conf_load(options, &conf);

	if (err == OK && (err = check_usable(options, conf)) != OK)
		conf_close(conf);
	if (err != OK)
		return err;
	(void)printf("%s is good: listens on %s, %zu %s, %zu methods\n",
	    options->file != NULL ? options->file : "the configuration", conf->listen,
	    conf->coalesce.upstreams.count, conf->demo ? "demo insurers" : "upstreams",
	    conf->coalesce.methods.count);
	conf_close(conf);
	return OK;
}

static enum err
print_nginx(const struct conf_options *options)
{
	struct conf *conf;
	enum err err = conf_load(options, &conf);

	if (err == OK)
		err = render_nginx(conf, stdout);
	conf_close(conf);
	return err;
}

static enum err
print_config(const struct conf_options *options)
{
	(void)options;
	conf_describe(stdout);
	return OK;
}

static enum err
print_problems(const struct conf_options *options)
{
	(void)options;
	render_problems(stdout);
	return OK;
}

static enum err
print_version(const struct conf_options *options)
{
	(void)options;
	(void)printf("caredesk %s\n", PACKAGE_VERSION);
	return OK;
}

static enum err print_help(const struct conf_options *options);

static const struct {
	const char *name;
	enum err (*run)(const struct conf_options *options);
	const char *help;
} commands[] = {
	{ "run", caredesk_run, "start the programs and nginx, and stay until SIGINT or SIGTERM" },
	{ "check-config", check_config, "say whether the configuration is good, or where not" },
	{ "render-nginx", print_nginx, "print nginx's configuration" },
	{ "config", print_config, "print every key of the configuration, its default and meaning" },
	{ "problems", print_problems, "print the page of all problems (Markdown)" },
	{ "version", print_version, "print the version" },
	{ "help", print_help, "print this" },
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void
usage(FILE *out)
{
	(void)fprintf(out,
	    "Usage: caredesk COMMAND [--config FILE] [--listen ADDRESS:PORT] "
	    "[--data DIR]\n\n");
	for (size_t i = 0; i < COMMANDS; i++)
		(void)fprintf(out, "  %-14s %s\n", commands[i].name, commands[i].help);
	(void)fprintf(out,
	    "\n"
	    "  --config FILE  the configuration; else " CONF_FILE
	    " if it is here, else the defaults\n"
	    "  --listen, --data  instead of what the configuration says\n");
}

static enum err
print_help(const struct conf_options *options)
{
	(void)options;
	usage(stdout);
	return OK;
}

static int
run_command(const char *name, const struct conf_options *options)
{
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(commands[i].name, name) != 0)
			continue;
		if (commands[i].run(options) == OK && fflush(stdout) == 0)
			return EXIT_SUCCESS;
		(void)fprintf(stderr, "caredesk: %s\n", err_words());
		return EXIT_FAILURE;
	}
	(void)fprintf(stderr, "caredesk: no command %s; see caredesk --help\n", name);
	return EXIT_FAILURE;
}

int
main(int argc, char **argv)
{
	static const struct option names[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "listen", required_argument, NULL, 'l' },
		{ "data", required_argument, NULL, 'd' },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct conf_options options = { 0 };
	int option;

	log_open("caredesk");
	while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
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
		case 'v':
			return run_command("version", &options);
		case 'h':
			return run_command("help", &options);
		default:
			usage(stderr);
			return EXIT_FAILURE;
		}
	}
	if (argc - optind == 1)
		return run_command(argv[optind], &options);
	usage(stderr);
	return EXIT_FAILURE;
}
