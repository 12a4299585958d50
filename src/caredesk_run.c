/*
 * caredesk_run: starts each program by spawn-fcgi and multiwatch, then nginx, and watches them.
 *
 *	caredesk run ─┬─ multiwatch ─ coalesce
 *	              ├─ multiwatch ─ health
 *	              ├─ nginx ─ nginx workers
 *	              └─ caredesk rotate-log, when the access log is too large
 *
 * spawn-fcgi has bound each socket and become multiwatch, so that it outlives a program that dies.
 *
 * The working directory is the data folder, here and in every child, and every path below it is
 * relative: the folder may lie where only root can walk, while the programs and nginx's workers are
 * no longer root.  Nothing is left behind: each child leads a process group of its own and is told
 *to end when this process dies, whatever of.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "caredesk.h"
#include "lib/clock.h"
#include "lib/counts.h"
#include "lib/digest.h"
#include "lib/keyring.h"
#include "lib/link.h"
#include "lib/log.h"
#include "lib/programs.h"
#include "lib/text.h"
#include "lib/upstream.h"
#include "lib/user.h"

/* As many connections as nginx has in all: it says 502 to whom it cannot connect, where waiting, or
 * a refusal by the program, would be right. */
#define BACKLOG "4096"
#define KEYS_OF "run/keys-of" /* the digest of the URL that the copy of keys is of */
#define READY_WITHIN_US (15 * CLOCK_SECOND_US)
#define ASK_EVERY_MS 20
#define ASK_WITHIN_US (CLOCK_SECOND_US / 2)
#define STOP_WITHIN_US (18 * CLOCK_SECOND_US / 10)
#define NGINX_FIRST_US (11 * CLOCK_SECOND_US / 10) /* the programs' stop begins after it */
#define OTHERS_WITHIN_US (5 * CLOCK_SECOND_US)
#define ALIVE_LOCK "run/alive" /* shared by all processes that we start, as long as they live */
#define CHILDREN (PROGRAM_COUNT + 2)
#define NGINX PROGRAM_COUNT
#define ROTATE (PROGRAM_COUNT + 1) /* a command of ours, now and then */
#define LOOK_EVERY_US (60 * CLOCK_SECOND_US) /* at the size of the access log */
#define MIB INT64_C(1048576)
#define RESTART_PAUSE_US (CLOCK_SECOND_US / 10)
#define HEALTH_MAX (1024 * 1024)
#define LINE_MAX_BYTES 4096 /* nginx cuts its own at 2048 */

/* A program that dies within 100 ms of its start, 5 times in a row, is given up: at the start for
 * good, later for a pause.  spawn-fcgi looks for no program along PATH; env does.  What multiwatch
 * says is no JSON and goes where nginx's words go; sh gives the program the log, kept at
 * descriptor 3. */
#define LOG_FD 3
#define MULTIWATCH \
	"/usr/bin/env", "multiwatch", "-f", "1", "-t", "100", "-r", "5", "--", "/bin/sh", "-c", \
	    "exec \"$0\" \"$@\" 2>&3 3>&-"

struct child {
	const char *name;
	pid_t pid; /* 0 once it has ended */
	int64_t again_us; /* when it may be started anew */
};

struct house {
	const struct conf *conf;
	char config_file[PATH_MAX]; /* full; /dev/null for the defaults */
	char program_dir[PATH_MAX];
	struct child children[CHILDREN];
	bool ready;
	int64_t look_us; /* when the log is looked at next */
	int lock_fd, signal_fd;
	int said_fds[2]; /* a pipe: what the children say, but for the programs */
	size_t line_used;
	char line[LINE_MAX_BYTES];
	char nginx_error[LINE_MAX_BYTES]; /* its last line of level emerg */
};

/* Beside this executable as built, or where make install has put them. */
static enum err
find_programs(struct house *house)
{
	char path[PATH_MAX + 32];
	ssize_t n = readlink("/proc/self/exe", house->program_dir, sizeof(house->program_dir) - 1);

	if (n < 0)
		return fail(ERR_INTERNAL, "the programs cannot be found: %m");
	house->program_dir[n] = '\0';
	*strrchr(house->program_dir, '/') = '\0';
	(void)snprintf(path, sizeof(path), "%s/%s", house->program_dir, program_names[0]);
	if (access(path, X_OK) != 0)
		(void)snprintf(house->program_dir, sizeof(house->program_dir), "%s", PROGRAM_DIR);
	return OK;
}

/* Makes the folder NAME, with those above it, if it is not there. */
static enum err
make_folders(const char *name)
{
	char path[PATH_MAX];
	size_t n = (size_t)snprintf(path, sizeof(path), "%s", name);

	for (size_t i = 1; i <= n && n < sizeof(path); i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		path[i] = '\0';
		if (mkdir(path, i < n ? 0755 : 0700) != 0 && errno != EEXIST)
			return fail(ERR_INPUT, "data folder %s: %m", path);
		path[i] = name[i];
	}
	return OK;
}

/* A folder with something else in it is no data folder, and must not be made one by mistake: ours
 * has the lock, a new one has nothing. */
static enum err
check_ours(const char *name)
{
	struct stat lock;
	struct dirent *entry;
	DIR *folder;

	if (lstat(DATA_LOCK, &lock) == 0 && S_ISREG(lock.st_mode))
		return OK;
	if ((folder = opendir(".")) == NULL)
		return fail(ERR_INPUT, "data folder %s: %m", name);
	do {
		entry = readdir(folder);
	} while (
	    entry != NULL && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
	(void)closedir(folder);
	if (entry == NULL)
		return OK;
	return fail(ERR_INPUT, "data folder %s: is not empty, and not one of caredesk's", name);
}

static enum err
take_lock(struct house *house, const char *name)
{
	if (mkdir("run", 0700) != 0 && errno != EEXIST)
		return fail(ERR_INPUT, "data folder %s: %m", name);
	house->lock_fd = open(DATA_LOCK, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (house->lock_fd < 0)
		return fail(ERR_INPUT, "data folder %s: %m", name);
	if (flock(house->lock_fd, LOCK_EX | LOCK_NB) != 0)
		return fail(ERR_INPUT, "data folder %s: another caredesk runs there", name);
	return OK;
}

/* Of one that was killed, some processes may still be about to end: they have sockets, databases
 * and the address. */
static enum err
await_end_of_others(const char *name)
{
	int64_t until_us = clock_monotonic_us() + OTHERS_WITHIN_US;
	int fd = open(ALIVE_LOCK, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	enum err err = OK;

	if (fd < 0)
		return fail(ERR_INPUT, "data folder %s: %m", name);
	while (flock(fd, LOCK_EX | LOCK_NB) != 0 && err == OK) {
		if (clock_monotonic_us() > until_us)
			err = fail(ERR_INPUT,
			    "data folder %s: processes of a caredesk that has ended still run "
			    "there",
			    name);
		(void)poll(NULL, 0, ASK_EVERY_MS);
	}
	(void)close(fd);
	return err;
}

/* Started by root, the folders stay root's, and the user's group may only look: what root writes,
 * or has nginx's master open, must not lie where the user could put a link instead.  The databases
 * are the user's own, and nobody else's. */
static enum err
make_tree(const char *name)
{
	static const struct {
		const char *name;
		bool users;
	} folders[] = {
		{ ".", false },
		{ "run", false },
		{ "log", false },
		{ "tmp", false },
		{ "cache", false },
		{ "html", false },
		{ "html/docs", false },
		{ "html/problems", false },
		{ "run/keys", true },
		{ "run/wanted", true },
		{ "db", true },
		{ "blobs", true },
	};
	struct user user;
	bool root = geteuid() == 0;
	enum err err = root ? user_find(name, &user) : OK;

	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]) && err == OK; i++) {
		if (mkdir(folders[i].name, 0700) != 0 && errno != EEXIST)
			err = fail(ERR_INPUT, "data folder, %s: %m", folders[i].name);
		else if (root && folders[i].users)
			err = folder_allot(folders[i].name, user.uid, user.gid, 0700);
		else if (root)
			err = folder_allot(folders[i].name, 0, user.gid, 0750);
	}
	return err;
}

/* What links are signed with, and tokens where no other secret is named. */
static enum err
make_secrets(const struct conf *conf)
{
	const struct conf_auth *auth = &conf->auth;
	enum err err = secret_make(LINK_SECRET_FILE, SECRET_LINK_BYTES, conf->user);

	if (err == OK && auth->mode == AUTH_REQUIRED && auth->secret_file != NULL &&
	    strcmp(auth->secret_file, CONF_SECRET_FILE) == 0)
		err = secret_make_for_tokens(conf->user);
	return err;
}

/* As it stands there; "" where it does not. */
static void
read_keys_of(char hex[2 * DIGEST_BYTES + 1])
{
	int fd = open(KEYS_OF, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : read(fd, hex, (size_t)2 * DIGEST_BYTES);

	hex[n < 0 ? 0 : n] = '\0';
	if (fd >= 0)
		(void)close(fd);
}

static enum err
write_keys_of(const char *hex)
{
	ssize_t n = (ssize_t)strlen(hex);
	int fd = open(KEYS_OF, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	bool whole = fd >= 0 && write(fd, hex, (size_t)n) == n;

	if (fd >= 0)
		(void)close(fd);
	return whole ? OK : fail(ERR_INPUT, "%s: %m", KEYS_OF);
}

/* Whose keys counted before may be trusted no more: their copy goes first, so that who is killed
 * between the two begins anew. */
static enum err
drop_foreign_keys(const struct conf_auth *auth)
{
	unsigned char bytes[DIGEST_BYTES];
	char hex[2 * DIGEST_BYTES + 1], known[2 * DIGEST_BYTES + 1];

	if (auth->mode != AUTH_REQUIRED || !auth->jwks_is_url)
		return OK;
	digest_of(auth->jwks, strlen(auth->jwks), bytes);
	text_to_hex(bytes, sizeof(bytes), hex);
	read_keys_of(known);
	if (strcmp(known, hex) == 0)
		return OK;
	if (unlink(KEYRING_COPY) != 0 && errno != ENOENT)
		return fail(ERR_INPUT, "%s: %m", KEYRING_COPY);
	return write_keys_of(hex);
}

/* What nginx has kept are members' answers; they must not lie about when nothing runs. */
static enum err
empty_cache(void)
{
	return folder_remove("cache/coalesce") ? OK
					       : fail(ERR_INTERNAL, "the cache cannot be emptied");
}

static enum err
open_data(struct house *house)
{
	const char *name = house->conf->data;
	enum err err;

	if ((err = make_folders(name)) != OK)
		return err;
	if (chdir(name) != 0)
		return fail(ERR_INPUT, "data folder %s: %m", name);
	if ((err = check_ours(name)) != OK || (err = take_lock(house, name)) != OK ||
	    (err = await_end_of_others(name)) != OK || (err = make_tree(house->conf->user)) != OK ||
	    (err = make_secrets(house->conf)) != OK ||
	    (err = drop_foreign_keys(&house->conf->auth)) != OK || (err = restore_tidy()) != OK)
		return err;
	return empty_cache();
}

/* nginx would try for seconds and then say less. */
static enum err
check_free(const char *host, int64_t port)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	bool is_v4 = inet_pton(AF_INET, host, &v4.sin_addr) == 1;
	const struct sockaddr *address =
	    is_v4 ? (const struct sockaddr *)&v4 : (const struct sockaddr *)&v6;
	int fd, yes = 1;
	enum err err = OK;

	(void)inet_pton(AF_INET6, host, &v6.sin6_addr);
	fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0 ||
	    bind(fd, address, is_v4 ? sizeof(v4) : sizeof(v6)) != 0)
		err = fail(ERR_INPUT, "cannot listen on %s port %d: %m", host, (int)port);
	if (fd >= 0)
		(void)close(fd);
	return err;
}

/* In the child: becomes ARGV, or says why not. */
static void
become(char *const *argv, int said_fd, pid_t parent)
{
	sigset_t none;
	int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int said = fcntl(said_fd, F_DUPFD_CLOEXEC, LOG_FD + 1);
	int opened = open(ALIVE_LOCK, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int alive = fcntl(opened, F_DUPFD, LOG_FD + 1); /* goes on to whom they start */

	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)setpgid(0, 0);
	(void)flock(alive, LOCK_SH);
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(EXIT_FAILURE); /* it died before that could tell us */
	(void)dup2(nothing, STDIN_FILENO);
	(void)dup2(STDERR_FILENO, LOG_FD);
	(void)dup2(said, STDOUT_FILENO);
	(void)dup2(said, STDERR_FILENO);
	(void)execvp(argv[0], argv);
	(void)dup2(LOG_FD, STDERR_FILENO);
	log_event(LOG_ERROR, "start_failed", "%s: %m", argv[0]);
	_exit(EXIT_FAILURE);
}

static enum err
start(struct house *house, size_t i, const char *name, char *const *argv)
{
	struct child *child = &house->children[i];
	pid_t parent = getpid();

	child->name = name;
	child->pid = fork();
	if (child->pid < 0) {
		child->pid = 0;
		return fail(ERR_INTERNAL, "%s cannot be started: %m", name);
	}
	if (child->pid == 0) {
		become(argv, house->said_fds[1], parent);
	}
	(void)setpgid(child->pid, child->pid); /* whoever comes first */
	return OK;
}

static enum err
start_program(struct house *house, size_t i)
{
	char socket[64], path[PATH_MAX + 64];
	char *argv[40] = { "spawn-fcgi", "-n", "-b", BACKLOG, "-M", "0600", "-s", socket };
	char *watched[] = { "--", MULTIWATCH, path, "--watched", "--listen",
		(char *)(uintptr_t)house->conf->listen, "--data", ".", "--config",
		house->config_file };
	size_t n = 8;

	(void)snprintf(socket, sizeof(socket), PROGRAM_SOCKET_FORMAT, program_names[i]);
	(void)unlink(socket); /* of one that is about to end: spawn-fcgi would not bind */
	(void)snprintf(path, sizeof(path), "%s/%s", house->program_dir, program_names[i]);
	if (geteuid() == 0) {
		argv[n++] = "-U";
		argv[n++] = (char *)(uintptr_t)house->conf->user;
	}
	memcpy(argv + n, watched, sizeof(watched));
	return start(house, i, program_names[i], argv);
}

static enum err
start_nginx(struct house *house)
{
	char *argv[] = { "nginx", "-e", "stderr", "-p", "./", "-c", "nginx.conf", NULL };

	(void)unlink(HTTP_SOCKET); /* of one that was killed: nginx would not bind */
	return start(house, NGINX, "nginx", argv);
}

/* Where the log is too large, or has lost its name in a rotation that was killed. */
static bool
log_is_due(const struct house *house)
{
	struct stat st;

	if (stat(COUNTS_LOG_FOLDER "/" COUNTS_LOG, &st) != 0)
		return errno == ENOENT;
	return st.st_size >= house->conf->log.rotate_mib * MIB;
}

/* That it fails is said, and stops nothing. */
static void
look_at_log(struct house *house)
{
	char *argv[] = { "/proc/self/exe", "rotate-log", "--data", ".", "--listen",
		(char *)(uintptr_t)house->conf->listen, "--config", house->config_file, NULL };
	int64_t now_us = clock_monotonic_us();

	if (house->conf->log.rotate_mib == 0 || now_us < house->look_us ||
	    house->children[ROTATE].pid != 0)
		return;
	house->look_us = now_us + LOOK_EVERY_US;
	if (log_is_due(house) && start(house, ROTATE, "rotate-log", argv) != OK)
		log_event(LOG_ERROR, "rotate", "%s", err_words());
}

/* Who says a line is known by its beginning; else it is multiwatch. */
static const struct {
	const char *prefix, *event;
	enum log_level level;
} sayings[] = {
	{ "rotated to ", "rotate", LOG_INFO },
	{ "nginx has opened ", "rotate", LOG_INFO },
	{ "removed ", "rotate", LOG_INFO },
	{ "caredesk: ", "rotate", LOG_WARNING },
};

static bool
relay_saying(const char *line)
{
	for (size_t i = 0; i < sizeof(sayings) / sizeof(sayings[0]); i++)
		if (strncmp(line, sayings[i].prefix, strlen(sayings[i].prefix)) == 0) {
			log_event(sayings[i].level, sayings[i].event, "%s", line);
			return true;
		}
	return false;
}

/* Behind nginx's "PID#TID: ", whose # begins no fragment; the line itself where that is not what
 * comes first. */
static char *
behind_ids(char *line)
{
	char *hash = line + strcspn(line, "?#"), *pid = hash, *end;

	while (pid > line && pid[-1] >= '0' && pid[-1] <= '9')
		pid--;
	if (*hash != '#' || pid == hash)
		return line;
	end = hash + 1 + strspn(hash + 1, "0123456789");
	return end > hash + 1 && strncmp(end, ": ", 2) == 0 ? end + 2 : line;
}

/* nginx quotes what the client sent: its address, request line, host and referrer behind "client:",
 * and here and there a path.  All of that goes, since none of it may be in a log. */
static void
relay_line(struct house *house, char *line)
{
	bool error = strstr(line, "[error]") != NULL || strstr(line, "[crit]") != NULL ||
	    strstr(line, "[alert]") != NULL || strstr(line, "[emerg]") != NULL;
	bool nginx = line[0] >= '0' && line[0] <= '9'; /* begins with the date */
	char *client = strstr(line, ", client: "), *words = nginx ? behind_ids(line) : line;

	/* That a body goes to disk is no news: every picture does. */
	if (relay_saying(line) || strstr(line, "is buffered to a temporary file") != NULL)
		return;
	if (client != NULL)
		*client = '\0';
	words[strcspn(words, "?#")] = '\0';
	log_event(error ? LOG_ERROR : LOG_WARNING, nginx ? "nginx" : "multiwatch", "%s", line);
	if (strstr(line, "[emerg]") != NULL)
		(void)snprintf(house->nginx_error, sizeof(house->nginx_error), "%s", line);
}

/* Takes what was said so far; lines too long come in pieces.  False if there was nothing. */
static bool
relay(struct house *house)
{
	size_t room = sizeof(house->line) - 1 - house->line_used;
	ssize_t n = read(house->said_fds[0], house->line + house->line_used, room);
	char *line = house->line, *end;

	if (n <= 0)
		return false;
	for (ssize_t i = 0; i < n; i++)
		if (house->line[house->line_used + (size_t)i] == '\0')
			house->line[house->line_used + (size_t)i] = ' ';
	house->line_used += (size_t)n;
	house->line[house->line_used] = '\0';
	while ((end = strchr(line, '\n')) != NULL) {
		*end = '\0';
		relay_line(house, line);
		line = end + 1;
	}
	house->line_used = strlen(line);
	memmove(house->line, line, house->line_used);
	if (house->line_used == sizeof(house->line) - 1) {
		house->line[house->line_used] = '\0';
		relay_line(house, house->line);
		house->line_used = 0;
	}
	return true;
}

/* Collects the dead.  Whoever outlives our own child among them goes with it: nginx's workers, a
 * program without its watcher.  The first child that nobody told to end is an error, but for a
 * watcher once all is ready: that is started anew. */
static enum err
reap(struct house *house)
{
	enum err err = OK;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (size_t i = 0; i < CHILDREN; i++) {
			if (house->children[i].pid != pid)
				continue;
			house->children[i].pid = 0;
			house->children[i].again_us = clock_monotonic_us() + RESTART_PAUSE_US;
			(void)kill(-pid, SIGKILL);
			while (relay(house))
				;
			if (i == ROTATE && status != 0 && status != SIGTERM)
				log_event(LOG_ERROR, "rotate",
				    "the access log was not rotated, as said before");
			if (err == OK && (i == NGINX || !house->ready))
				err = fail(ERR_INTERNAL, "%s has ended by itself (%s %d)%s%s",
				    house->children[i].name,
				    WIFEXITED(status) ? "exit status" : "signal",
				    WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
				    i == NGINX ? ": " : "; its log line says why",
				    i == NGINX ? house->nginx_error : "");
		}
	}
	return err;
}

/* Waits for at most TIMEOUT_MS for something to happen.  *STOP once we are told to stop. */
static enum err
watch(struct house *house, int timeout_ms, bool *stop)
{
	struct pollfd fds[] = { { .fd = house->signal_fd, .events = POLLIN },
		{ .fd = house->said_fds[0], .events = POLLIN } };
	struct signalfd_siginfo info;

	if (poll(fds, 2, timeout_ms) <= 0)
		return OK;
	if (fds[1].revents != 0)
		(void)relay(house);
	if (fds[0].revents == 0 || read(house->signal_fd, &info, sizeof(info)) != sizeof(info))
		return OK;
	if (info.ssi_signo == SIGCHLD)
		return reap(house);
	if (info.ssi_signo != SIGUSR1)
		*stop = true;
	else if (house->children[NGINX].pid != 0)
		(void)kill(house->children[NGINX].pid, SIGUSR1); /* it opens its log anew */
	return OK;
}

/* The same, but until UNTIL_US whatever happens, unless we are told to stop. */
static enum err
watch_until(struct house *house, int64_t until_us, bool *stop)
{
	int64_t left_us = until_us - clock_monotonic_us();
	enum err err = OK;

	while (left_us > 0 && err == OK && !*stop) {
		err = watch(house, (int)(left_us / CLOCK_MS_US) + 1, stop);
		left_us = until_us - clock_monotonic_us();
	}
	return err;
}

/* The first program whose socket is not there; PROGRAM_COUNT: they all are. */
static size_t
find_socketless(void)
{
	char socket[64];
	size_t i;

	for (i = 0; i < PROGRAM_COUNT; i++) {
		(void)snprintf(socket, sizeof(socket), PROGRAM_SOCKET_FORMAT, program_names[i]);
		if (access(socket, F_OK) != 0)
			break;
	}
	return i;
}

/* Which program is the first that has not answered through nginx, well or not; PROGRAM_COUNT: none.
 * Nobody is asked before all can be reached, for nginx has a line to say of each who cannot. */
static enum err
ask_all(struct upstream_call *calls, size_t *missing)
{
	enum err err;

	*missing = access(HTTP_SOCKET, F_OK) == 0 ? find_socketless() : 0;
	if (*missing < PROGRAM_COUNT)
		return OK;
	err = upstream_ask(calls, PROGRAM_COUNT, "", "", clock_monotonic_us() + ASK_WITHIN_US);
	if (err != OK)
		return err;
	*missing = PROGRAM_COUNT;
	for (size_t i = PROGRAM_COUNT; i-- > 0;) {
		if (calls[i].outcome != UPSTREAM_ANSWERED ||
		    (calls[i].status != 200 && calls[i].status != 503))
			*missing = i;
		upstream_settle(&calls[i], UPSTREAM_ANSWERED); /* not yet is no failure */
	}
	return OK;
}

/* Whatever is said meanwhile, a question has its distance from the next: it may be what nginx
 * speaks of. */
static enum err
await_answers(struct house *house, struct upstream_call *calls, bool *stop)
{
	int64_t until_us = clock_monotonic_us() + READY_WITHIN_US;
	size_t missing = 0;
	enum err err;

	while (missing < PROGRAM_COUNT && !*stop) {
		int64_t next_us = clock_monotonic_us() + ASK_EVERY_MS * CLOCK_MS_US;

		if ((err = watch_until(house, next_us, stop)) != OK ||
		    (err = ask_all(calls, &missing)) != OK)
			return err;
		if (missing < PROGRAM_COUNT && clock_monotonic_us() > until_us)
			return fail(ERR_INTERNAL, "%s does not answer", program_names[missing]);
	}
	return OK;
}

/* "ready" once every program answers. */
static enum err
await_ready(struct house *house, bool *stop)
{
	struct upstream_config configs[PROGRAM_COUNT];
	struct upstream_call calls[PROGRAM_COUNT] = { 0 };
	char urls[PROGRAM_COUNT][64];
	enum err err = OK;

	for (size_t i = 0; i < PROGRAM_COUNT && err == OK; i++) {
		(void)snprintf(
		    urls[i], sizeof(urls[i]), "http://localhost/healthz/%s", program_names[i]);
		configs[i] = (struct upstream_config){ .name = program_names[i],
			.url = urls[i],
			.socket = HTTP_SOCKET,
			.max_in_flight = 1,
			.circuit_failures = UINT32_MAX,
			.body_max = HEALTH_MAX };
		err = upstream_open(&configs[i], &calls[i].upstream);
	}
	if (err == OK)
		err = await_answers(house, calls, stop);
	for (size_t i = 0; i < PROGRAM_COUNT; i++)
		upstream_close(calls[i].upstream);
	if (err == OK && !*stop) {
		house->ready = true;
		(void)printf("ready %s/\n", house->conf->own_url);
		(void)fflush(stdout);
	}
	return err;
}

static bool
any_alive(const struct house *house)
{
	for (size_t i = 0; i < CHILDREN; i++)
		if (house->children[i].pid != 0)
			return true;
	return false;
}

static void
signal_programs(const struct house *house, int signal)
{
	for (size_t i = 0; i < PROGRAM_COUNT; i++)
		if (house->children[i].pid != 0)
			(void)kill(house->children[i].pid, signal);
}

/* nginx first, so that what it has taken is answered; then the programs; then whoever is left. */
static void
stop_all(struct house *house)
{
	int64_t begin_us = clock_monotonic_us(), now_us = begin_us;
	bool ignored, told = false;

	if (house->children[NGINX].pid != 0)
		(void)kill(house->children[NGINX].pid, SIGQUIT);
	if (house->children[ROTATE].pid != 0)
		(void)kill(house->children[ROTATE].pid, SIGTERM);
	while (any_alive(house) && now_us - begin_us < STOP_WITHIN_US) {
		if (!told &&
		    (house->children[NGINX].pid == 0 || now_us - begin_us > NGINX_FIRST_US)) {
			signal_programs(house, SIGTERM);
			told = true;
		}
		if (watch(house, ASK_EVERY_MS, &ignored) != OK) {
			/* Now they end because they were told to. */
		}
		now_us = clock_monotonic_us();
	}
	for (size_t i = 0; i < CHILDREN; i++)
		if (house->children[i].pid != 0) {
			log_event(LOG_WARNING, "killed", "%s did not stop in time",
			    house->children[i].name);
			(void)kill(-house->children[i].pid, SIGKILL);
			(void)waitpid(house->children[i].pid, NULL, 0);
		}
}

static enum err
open_signals(struct house *house)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	(void)sigaddset(&set, SIGUSR1);
	(void)sigaddset(&set, SIGCHLD);
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0 ||
	    (house->signal_fd = signalfd(-1, &set, SFD_CLOEXEC)) < 0 ||
	    pipe2(house->said_fds, O_CLOEXEC) != 0 ||
	    fcntl(house->said_fds[0], F_SETFL, O_NONBLOCK) != 0)
		return fail(ERR_INTERNAL, "signals cannot be waited for: %m");
	return OK;
}

static enum err
start_all(struct house *house)
{
	enum err err = OK;

	for (size_t i = 0; i < PROGRAM_COUNT && err == OK; i++)
		err = start_program(house, i);
	if (err == OK)
		err = start_nginx(house);
	return err;
}

static enum err
prepare(struct house *house)
{
	enum err err;

	if ((err = find_programs(house)) != OK || (err = open_data(house)) != OK ||
	    (err = check_free(house->conf->host, house->conf->port)) != OK)
		return err;
	if (house->conf->demo && (err = check_free("127.0.0.1", house->conf->demo_port)) != OK)
		return err;
	if ((err = render_all(house->conf)) != OK || (err = docs_put(house->program_dir)) != OK)
		return err;
	return open_signals(house);
}

/* For how long nothing is due: milliseconds, or -1 for ever. */
static int
quiet_ms(const struct house *house, bool missing)
{
	int64_t left_us = house->look_us - clock_monotonic_us();

	if (missing)
		return ASK_EVERY_MS;
	if (house->conf->log.rotate_mib == 0)
		return -1;
	return left_us > 0 ? (int)(left_us / CLOCK_MS_US) + 1 : ASK_EVERY_MS;
}

/* Until told to stop.  A program whose watcher has given it up is tried again after a pause. */
static enum err
stay(struct house *house, bool *stop)
{
	enum err err = OK;

	while (err == OK && !*stop) {
		bool missing = false;

		for (size_t i = 0; i < PROGRAM_COUNT && err == OK; i++) {
			if (house->children[i].pid == 0 &&
			    clock_monotonic_us() >= house->children[i].again_us)
				err = start_program(house, i);
			missing |= house->children[i].pid == 0;
		}
		look_at_log(house);
		if (err == OK)
			err = watch(house, quiet_ms(house, missing), stop);
	}
	return err;
}

static enum err
run(struct house *house)
{
	bool stop = false;
	enum err err;

	if ((err = start_all(house)) == OK && (err = await_ready(house, &stop)) == OK)
		err = stay(house, &stop);
	return err;
}

/* As the programs are given it, who start in the data folder and must not find another there. */
static enum err
full_config_path(const struct conf_options *options, char path[PATH_MAX])
{
	const char *name = options->file;

	if (name == NULL)
		name = access(CONF_FILE, F_OK) == 0 ? CONF_FILE : "/dev/null";
	return realpath(name, path) != NULL ? OK : fail(ERR_INPUT, "%s: %m", name);
}

static void
house_close(struct house *house)
{
	const int fds[] = { house->signal_fd, house->said_fds[0], house->said_fds[1],
		house->lock_fd };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
}

enum err
caredesk_run(const struct conf_options *options)
{
	struct house house = { .lock_fd = -1, .signal_fd = -1, .said_fds = { -1, -1 } };
	char path[4096], words[ERR_WORDS_MAX];
	struct conf *conf;
	enum err err, cleared;

	if ((err = conf_load(options, &conf)) != OK)
		return err;
	house.conf = conf;
	/* Debian keeps nginx where only root looks. */
	(void)snprintf(path, sizeof(path), "%s:/usr/sbin:/sbin",
	    getenv("PATH") != NULL ? getenv("PATH") : "/usr/bin:/bin");
	(void)setenv("PATH", path, 1);
	if ((err = check_usable(options, conf)) == OK &&
	    (err = full_config_path(options, house.config_file)) == OK &&
	    (err = prepare(&house)) == OK) {
		err = run(&house);
		(void)snprintf(words, sizeof(words), "%s", err_words());
		stop_all(&house);
		cleared = empty_cache();
		err = err != OK ? fail(err, "%s", words) : cleared;
	}
	house_close(&house);
	conf_close(conf);
	return err;
}
