/*
 * caredesk: the operator's command.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "caredesk.h"
#include "lib/clock.h"
#include "lib/keyring.h"
#include "lib/log.h"
#include "lib/text.h"
#include "lib/token.h"
#include "lib/trust.h"
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

/* A URL as provider will open it; files as the programs will read them. */
static enum err
check_keys(const struct conf_auth *auth)
{
	const struct conf_upstream item = { .name = "auth.jwks", .url = auth->jwks };
	enum err err = OK;

	if (auth->mode == AUTH_OFF)
		return OK;
	if (auth->jwks_is_url)
		err = check_upstream(&item);
	return err == OK ? keyring_check(auth) : err;
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
	if ((err = check_keys(&conf->auth)) != OK)
		return fail(err, "%s: %s", file, err_words());
	if (conf->tls.certificate != NULL &&
	    (err = trust_pair_check(conf->tls.certificate, conf->tls.key)) != OK)
		return fail(err, "%s: tls: %s", file, err_words());
	return geteuid() == 0 ? user_find(conf->user, &user) : OK;
}

static enum err
check_config(const struct caredesk_options *options)
{
	struct conf *conf;
	enum err err = conf_load(&options->conf, &conf);

	if (err == OK && (err = check_usable(&options->conf, conf)) != OK)
		conf_close(conf);
	if (err != OK)
		return err;
	(void)printf("%s is good: listens on %s, %zu %s, %zu methods\n",
	    options->conf.file != NULL ? options->conf.file : "the configuration", conf->listen,
	    conf->coalesce.upstreams.count, conf->demo ? "demo insurers" : "upstreams",
	    conf->coalesce.methods.count);
	conf_close(conf);
	return OK;
}

static enum err
print_nginx(const struct caredesk_options *options)
{
	struct conf *conf;
	enum err err = conf_load(&options->conf, &conf);

	if (err == OK)
		err = render_nginx(conf, "SECRET", stdout); /* for somebody to read */
	conf_close(conf);
	return err;
}

static enum err
print_config(const struct caredesk_options *options)
{
	(void)options;
	conf_describe(stdout);
	return OK;
}

static enum err
print_problems(const struct caredesk_options *options)
{
	(void)options;
	render_problems(stdout);
	return OK;
}

static enum err
print_version(const struct caredesk_options *options)
{
	(void)options;
	(void)printf("caredesk %s\n", PACKAGE_VERSION);
	return OK;
}

static enum err
run_all(const struct caredesk_options *options)
{
	return caredesk_run(&options->conf);
}

static enum err print_help(const struct caredesk_options *options);

/* An option is a letter to getopt_long() and to the commands that take it. */
static const struct command {
	const char *name;
	const char *arguments; /* what they are called; those in brackets may be left out */
	const char *takes; /* letters of options beyond those that all take */
	enum err (*run)(const struct caredesk_options *options);
	const char *help;
} commands[] = {
	{ "run", "", "", run_all,
	    "start the programs and nginx, and stay until SIGINT or SIGTERM" },
	{ "check-config", "", "", check_config,
	    "say whether the configuration is good, or where not" },
	{ "render-nginx", "", "", print_nginx, "print nginx's configuration" },
	{ "config", "", "", print_config,
	    "print every key of the configuration, its default and meaning" },
	{ "migrate", "", "", caredesk_migrate,
	    "bring the databases to the form that this version needs" },
	{ "import", "FILE", "k", caredesk_import,
	    "register the events of a file, one JSON object a line; - is standard input" },
	{ "demo", "", "en", caredesk_demo,
	    "make up types and events of five years, where there are none" },
	{ "recount", "[SET]", "r", caredesk_recount,
	    "check the database of events, or of stats, and that all its sums are right" },
	{ "audit list", "", "bpiqafumj", caredesk_audit_list,
	    "print who read, changed, gave out or erased what, and who paid; the newest last" },
	{ "audit verify", "", "bw", caredesk_audit_verify,
	    "check that every row of the audit is as it was recorded, and print its head" },
	{ "fsck", "[SET]", "", caredesk_fsck,
	    "check every database, or one, and that all that must agree agrees" },
	{ "backup", "DIR", "", caredesk_backup,
	    "copy all data into a folder, as of one instant, also while the service runs" },
	{ "restore", "DIR", "", caredesk_restore,
	    "put a backup in the place of the data, which are kept" },
	{ "person export", "ID [DIR]", "", caredesk_person_export,
	    "put all that is stored of the person with this account into a new folder" },
	{ "person erase", "ID", "y", caredesk_person_erase,
	    "leave nothing of the person with this account" },
	{ "load", "N", "", caredesk_load,
	    "send N requests to the service, and show what it counted and how long they took" },
	{ "rotate-log", "", "z", caredesk_rotate,
	    "rename the access log if it is large, and remove old ones that are counted" },
	{ "token", "", "sogntx", caredesk_token,
	    "make a token that is signed with the local secret, or --check one" },
	{ "problems", "", "", print_problems, "print the page of all problems (Markdown)" },
	{ "version", "", "", print_version, "print the version" },
	{ "help", "", "", print_help, "print this" },
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct {
	char letter;
	const char *name;
	const char *value; /* what it is called; NULL for none */
	const char *help;
} options_known[] = {
	{ 'c', "config", "FILE",
	    "the configuration; else " CONF_FILE " if it is here, else the defaults" },
	{ 'l', "listen", "ADDRESS:PORT", "instead of what the configuration says" },
	{ 'd', "data", "DIR", "likewise: the folder of all that is written" },
	{ 'e', "events", "N", "demo: how many; 100,000 if not given" },
	{ 'n', "caregivers", "N[,N]",
	    "demo: how many; 1,000 if not given; token: the ids of those whose manager they are" },
	{ 'r', "repair", NULL, "recount: put right what differs" },
	{ 'k', "retry", "KEY", "import: that of an attempt before, so that nothing is done twice" },
	{ 'z', "size", "MIB",
	    "rotate-log: if the log has so much; 0 is always; else as the configuration says" },
	{ 'y', "yes", NULL, "person erase: do not ask" },
	{ 's', "sub", "NAME", "token: whose it is" },
	{ 'o', "role", "ROLE",
	    "token: caregiver, manager, accountant or admin; may be given again" },
	{ 'g', "caregiver", "ID", "token: who they are, of a caregiver" },
	{ 't', "ttl", "SECONDS", "token: how long it is good; 3600 if not given, and at most" },
	{ 'x', "check", NULL,
	    "token: say what the one on standard input says, or why it is refused" },
	{ 'b', "set", "SET", "audit: that of accounts, audios or events only" },
	{ 'p', "person", "ID", "audit list: about the account with this id" },
	{ 'q', "session", "ID", "audit list: about this session of a hearing test" },
	{ 'i', "event", "ID", "audit list: about this event" },
	{ 'a', "actor", "NAME", "audit list: by whom: the sub of a token, operator or anonymous" },
	{ 'f', "since", "TIME", "audit list: from this instant on, as 2026-11-20T08:00:00Z" },
	{ 'u', "until", "TIME", "audit list: before this instant" },
	{ 'm', "limit", "N", "audit list: the newest N rows; 100 if not given" },
	{ 'j', "json", NULL, "audit list: a JSON object a line" },
	{ 'w', "head", "SET:SEQ:DIGEST",
	    "audit verify: a head that was printed before; may be given again" },
	{ 'v', "version", NULL, "print the version" },
	{ 'h', "help", NULL, "print this, or what a command, or a group such as audit, takes" },
};

#define OPTIONS (sizeof(options_known) / sizeof(options_known[0]))
#define OPTIONS_OF_ALL "cldvh"
#define GIVEN_SIZE (OPTIONS + 2) /* each once, and what is none */

static void
print_options(FILE *out, const char *letters)
{
	char name[48];

	for (size_t i = 0; i < OPTIONS; i++) {
		if (strchr(letters, options_known[i].letter) == NULL)
			continue;
		(void)snprintf(name, sizeof(name), "--%s %s", options_known[i].name,
		    options_known[i].value != NULL ? options_known[i].value : "");
		(void)fprintf(out, "  %-21s %s\n", name, options_known[i].help);
	}
}

/* Whether it is one of "audit list" and "audit verify", for the group audit; "" is all of them. */
static bool
is_in_group(const struct command *command, const char *group)
{
	size_t n = strlen(group);

	return n == 0 || (strncmp(command->name, group, n) == 0 && command->name[n] == ' ');
}

/* Whether one of the group takes it, or all do. */
static bool
group_takes(const char *group, char letter)
{
	if (group[0] == '\0' || strchr(OPTIONS_OF_ALL, letter) != NULL)
		return true;
	for (size_t i = 0; i < COMMANDS; i++)
		if (is_in_group(&commands[i], group) && strchr(commands[i].takes, letter) != NULL)
			return true;
	return false;
}

static void
usage(FILE *out, const char *group)
{
	char name[48];

	(void)fprintf(out, "Usage: caredesk %s%sCOMMAND [ARGUMENT]... [OPTION]...\n\n", group,
	    group[0] != '\0' ? " " : "");
	for (size_t i = 0; i < COMMANDS; i++) {
		if (!is_in_group(&commands[i], group))
			continue;
		(void)snprintf(
		    name, sizeof(name), "%s %s", commands[i].name, commands[i].arguments);
		(void)fprintf(out, "  %-22s %s\n", name, commands[i].help);
	}
	(void)fprintf(out, "\n");
	for (size_t i = 0; i < OPTIONS; i++)
		if (group_takes(group, options_known[i].letter))
			print_options(out, (const char[]){ options_known[i].letter, '\0' });
}

static void
usage_of(FILE *out, const struct command *command)
{
	(void)fprintf(out, "Usage: caredesk %s%s%s [OPTION]...\n\n  %s\n\n", command->name,
	    command->arguments[0] != '\0' ? " " : "", command->arguments, command->help);
	print_options(out, command->takes);
	print_options(out, OPTIONS_OF_ALL);
}

static enum err
print_help(const struct caredesk_options *options)
{
	(void)options;
	usage(stdout, "");
	return OK;
}

/* --- The command line. */

static enum err
read_number(const char *name, const char *text, int64_t min, int64_t max, int64_t *value)
{
	if (text_uint(text, strlen(text), value) && *value >= min && *value <= max)
		return OK;
	return fail(ERR_INPUT, "--%s must be a whole number of %lld..%lld", name, (long long)min,
	    (long long)max);
}

static enum err
read_role(const char *name, unsigned *roles)
{
	for (unsigned r = 0; r < ROLE_COUNT; r++)
		if (strcmp(name, role_names[r]) == 0) {
			*roles |= 1U << r;
			return OK;
		}
	return fail(ERR_INPUT, "--role must be one of caregiver, manager, accountant, admin");
}

static enum err
read_time(const char *name, int64_t *us)
{
	if (clock_parse(optarg, strlen(optarg), us) == OK)
		return OK;
	return fail(ERR_INPUT, "--%s: %s", name, err_words());
}

/* Of an account, a session or an event: one of them. */
static enum err
read_subject(const char *name, const char *noun, struct caredesk_options *options)
{
	if (options->audit.noun != NULL)
		return fail(ERR_INPUT, "only one of --person, --session and --event may be given");
	options->audit.noun = noun;
	return read_number(name, optarg, 0, INT64_MAX, &options->audit.subject);
}

static enum err
add_head(struct caredesk_options *options)
{
	if (options->audit.head_count == DATA_SETS)
		return fail(ERR_INPUT, "--head was given too often: once for each data set");
	options->audit.heads[options->audit.head_count++] = optarg;
	return OK;
}

/* The letters of caredesk audit. */
static enum err
take_audit_option(char letter, struct caredesk_options *options)
{
	switch (letter) {
	case 'b':
		options->audit.set = optarg;
		return OK;
	case 'p':
		return read_subject("person", "account", options);
	case 'q':
		return read_subject("session", "session", options);
	case 'i':
		return read_subject("event", "event", options);
	case 'a':
		options->audit.who = optarg;
		return OK;
	case 'f':
		return read_time("since", &options->audit.since_us);
	case 'u':
		return read_time("until", &options->audit.until_us);
	case 'm':
		return read_number("limit", optarg, 1, AUDIT_ROWS_MAX, &options->audit.most);
	case 'j':
		options->audit.json = true;
		return OK;
	case 'w':
		return add_head(options);
	default:
		return OK;
	}
}

/* The letters of caredesk token. */
static enum err
take_token_option(char letter, struct caredesk_options *options)
{
	switch (letter) {
	case 's':
		options->sub = optarg;
		return OK;
	case 'o':
		return read_role(optarg, &options->roles);
	case 'g':
		return read_number("caregiver", optarg, 1, INT64_MAX, &options->caregiver);
	case 't':
		return read_number("ttl", optarg, 1, TOKEN_LIFE_MAX_S, &options->ttl_s);
	case 'x':
		options->check = true;
		return OK;
	default:
		return take_audit_option(letter, options);
	}
}

/* What a letter says.  Each is remembered in GIVEN, which has room for one more. */
static enum err
take_option(char letter, char *given, struct caredesk_options *options)
{
	if (strchr(given, letter) == NULL)
		given[strlen(given)] = letter;
	switch (letter) {
	case 'c':
		options->conf.file = optarg;
		return OK;
	case 'l':
		options->conf.listen = optarg;
		return OK;
	case 'd':
		options->conf.data = optarg;
		return OK;
	case 'e':
		return read_number("events", optarg, 1, DEMO_EVENTS_MAX, &options->events);
	case 'n':
		options->caregivers = optarg;
		return OK;
	case 'k':
		options->retry = optarg;
		return OK;
	case 'z':
		return read_number("size", optarg, 0, LOG_MIB_MAX, &options->size_mib);
	case 'r':
		options->repair = true;
		return OK;
	case 'y':
		options->yes = true;
		return OK;
	default:
		return take_token_option(letter, options);
	}
}

/* What is none; getopt_long() has looked at TEXT, or at a letter of it or of what is behind it. */
static enum err
refuse_option(char why, const char *text)
{
	if (why == ':')
		return fail(ERR_INPUT, "%s needs a value", text);
	if (optopt == 0)
		return fail(ERR_INPUT, "there is no option %s", text);
	for (size_t i = 0; i < OPTIONS && strncmp(text, "--", 2) == 0; i++)
		if (options_known[i].letter == optopt && options_known[i].value == NULL &&
		    strncmp(text + 2, options_known[i].name, strcspn(text + 2, "=")) == 0)
			return fail(ERR_INPUT, "--%s takes no value", options_known[i].name);
	return fail(ERR_INPUT, "there is no option -%c", optopt);
}

/* The options, and where the words begin (optind), which are found behind one that is bad, too. */
static enum err
read_options(int argc, char **argv, char given[GIVEN_SIZE], struct caredesk_options *options)
{
	struct option names[OPTIONS + 1] = { 0 };
	enum err err = OK;
	int letter, before;

	for (size_t i = 0; i < OPTIONS; i++)
		names[i] = (struct option){ .name = options_known[i].name,
			.has_arg = options_known[i].value != NULL ? required_argument : no_argument,
			.val = options_known[i].letter };
	memset(given, '\0', GIVEN_SIZE);
	opterr = 0;
	while (before = optind, (letter = getopt_long(argc, argv, ":h", names, NULL)) != -1)
		if (err == OK)
			err = letter == '?' || letter == ':'
			    /* Amid several letters it has not gone on to the next word. */
			    ? refuse_option((char)letter, optind > before ? argv[optind - 1] : "")
			    : take_option((char)letter, given, options);
	return err;
}

/* Whether WORDS, up to NULL, begin with all that NAME has; then *COUNT of them. */
static bool
begins_with(char **words, const char *name, int *count)
{
	size_t n;

	for (*count = 0; *name != '\0'; ++*count) {
		n = strcspn(name, " ");
		if (words[*count] == NULL || strlen(words[*count]) != n ||
		    strncmp(words[*count], name, n) != 0)
			return false;
		name += n + strspn(name + n, " ");
	}
	return true;
}

/* NULL if they name none; *COUNT is how many words its name has. */
static const struct command *
find_command(char **words, int *count)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (begins_with(words, commands[i].name, count))
			return &commands[i];
	return NULL;
}

/* The group that the words begin with; "" if it is that of all. */
static const char *
find_group(char **words)
{
	for (size_t i = 0; i < COMMANDS && words[0] != NULL; i++)
		if (is_in_group(&commands[i], words[0]))
			return words[0];
	return "";
}

/* Where COMMAND is none that there is. */
static enum err
check_named(const struct command *command, const char *group, char **words)
{
	if (command != NULL)
		return OK;
	if (words[group[0] != '\0'] == NULL)
		return fail(ERR_INPUT, "which command%s%s?", group[0] != '\0' ? " of " : "", group);
	return fail(ERR_INPUT, "no command %s%s%s", words[0], words[1] != NULL ? " " : "",
	    words[1] != NULL ? words[1] : "");
}

static enum err
check_count(const struct command *command, int given)
{
	int most = 0;
	size_t n;

	for (const char *name = command->arguments; *name != '\0'; most++) {
		n = strcspn(name, " ");
		if (most >= given && name[0] != '[')
			return fail(ERR_INPUT, "%s needs %.*s", command->name, (int)n, name);
		name += n + strspn(name + n, " ");
	}
	if (given > most)
		return fail(ERR_INPUT, "%s takes %s%s", command->name,
		    most > 0 ? "only " : "no argument", command->arguments);
	return OK;
}

/* Whether COMMAND takes these options and so many arguments. */
static enum err
check_taken(const struct command *command, const char *given, int arguments)
{
	for (size_t i = 0; i < OPTIONS; i++)
		if (strchr(given, options_known[i].letter) != NULL &&
		    strchr(OPTIONS_OF_ALL, options_known[i].letter) == NULL &&
		    strchr(command->takes, options_known[i].letter) == NULL)
			return fail(
			    ERR_INPUT, "%s takes no --%s", command->name, options_known[i].name);
	return check_count(command, arguments);
}

/* The words, and each bad field where they are not of the only one. */
static int
give_up(void)
{
	size_t count;
	const struct err_field *fields = err_fields(&count);

	(void)fflush(stdout);
	(void)fprintf(stderr, "caredesk: %s\n", err_words());
	for (size_t i = 0; i < count && count > 1; i++)
		(void)fprintf(stderr, "  %s: %s\n", fields[i].pointer, fields[i].detail);
	return EXIT_FAILURE;
}

static int
run_command(const struct command *command, const struct caredesk_options *options)
{
	if (command->run(options) != OK)
		return give_up();
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* The words of a command line that is no good, and where it says what is. */
static int
refuse_line(const struct command *command, const char *group)
{
	const char *name = command != NULL ? command->name : group;

	(void)give_up();
	(void)fprintf(stderr, "try caredesk %s%s--help\n", name, name[0] != '\0' ? " " : "");
	return EXIT_FAILURE;
}

/* Of a command, of a group, or of all. */
static int
show_help(const struct command *command, const char *group)
{
	if (command != NULL)
		usage_of(stdout, command);
	else
		usage(stdout, group);
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int
main(int argc, char **argv)
{
	struct caredesk_options options = {
		.events = 100000,
		.size_mib = -1,
		.ttl_s = TOKEN_LIFE_MAX_S,
		.audit = { .since_us = INT64_MIN, .until_us = INT64_MAX, .most = 100 },
	};
	const struct command *command;
	const char *group;
	char given[GIVEN_SIZE], **words;
	int named = 0;
	bool alone; /* a name of none, or of a group */
	enum err err;

	log_open("caredesk");
	err = read_options(argc, argv, given, &options);
	words = argv + optind;
	command = find_command(words, &named);
	group = find_group(words);
	alone = command == NULL && words[group[0] != '\0'] == NULL;
	if (err == OK && strchr(given, 'h') != NULL && (command != NULL || alone))
		return show_help(command, group);
	if (err == OK && strchr(given, 'v') != NULL && (command != NULL || words[0] == NULL))
		return print_version(&options) == OK ? EXIT_SUCCESS : EXIT_FAILURE;
	if (err != OK || check_named(command, group, words) != OK ||
	    check_taken(command, given, argc - optind - named) != OK)
		return refuse_line(command, group);
	options.argument = words[named];
	options.second = options.argument != NULL ? words[named + 1] : NULL;
	return run_command(command, &options);
}
