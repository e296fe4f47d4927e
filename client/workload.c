/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * workload.c - ttalloc-workload: makes the events of a language model on N devices and says what must be left of them.
 *
 * Promises: on a server that nobody else reports to, the printed totals are what the server shows, exactly, faults
 * included, and also when --die-after killed the processes in the middle. docs/ttalloc-workload.1 describes options
 * and output; scripts read the output.
 *
 * With several processes, or with --die-after, the parent only starts, watches and prints; it reports nothing.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/workload-model.h"
#include "client/workload-scenario.h"

#define EXIT_USAGE 2

/* Options that take a number, and their place in `numbers`. */
enum number {
	DEVICES,
	LAYERS,
	STEPS,
	RATE,
	PROCESSES,
	SEED,
	LEAK,
	DOUBLE_FREE,
	UNKNOWN_FREE,
	DIE_AFTER,
	NUMBERS,
};

static const struct number_option {
	const char *name;
	uint64_t preset;
	uint64_t min;
	uint64_t max;
	const char *help;
} number_options[NUMBERS] = {
	[DEVICES] = { "devices", 1, 1, MODEL_DEVICES_MAX, "devices to use, from device 0 on" },
	[LAYERS] = { "layers", 4, 1, MODEL_LAYERS_MAX, "layers of the model" },
	[STEPS] = { "steps", 10, 0, UINT64_MAX, "tokens to generate; 0: until SIGTERM or SIGINT" },
	[RATE] = { "rate", 0, 0, 1000000000, "events per second and process; 0: as fast as it goes" },
	[PROCESSES] = { "processes", 1, 1, MODEL_PROCESSES_MAX, "processes that share the devices" },
	[SEED] = { "seed", 1, 0, UINT64_MAX, "the same seed makes the same events" },
	[LEAK] = { "leak", 0, 0, MODEL_FAULTS_MAX, "buffers per process that are never freed" },
	[DOUBLE_FREE] = { "double-free", 0, 0, MODEL_FAULTS_MAX, "buffers per process that are freed twice" },
	[UNKNOWN_FREE] = { "unknown-free", 0, 0, MODEL_FAULTS_MAX, "frees per process of what never was" },
	[DIE_AFTER] = { "die-after", 0, 1, UINT64_MAX, "SIGKILL in each process after so many events" },
};

struct settings {
	uint64_t numbers[NUMBERS];
	bool hold;
	bool mark;
	enum model_keep keep;
	const struct scenario *scenario;
	const char *socket;
};

struct child {
	volatile pid_t pid;   /* 0: ended, the number may be another process's by now */
	int told;             /* reads one byte when the child holds, end of file when it is gone */
};

static volatile sig_atomic_t stop;
/* Whom the signal handler tells; empty in a child. */
static struct child children[MODEL_PROCESSES_MAX];
static volatile sig_atomic_t child_count;

/* --- options --- */

static int print_version(void)
{
	printf("ttalloc-workload %s\n", TTALLOC_VERSION);
	return 1;
}

static int print_help(void)
{
	unsigned i;

	printf("Usage: ttalloc-workload [OPTION]...\n"
	       "Reports the memory events of a language model to the ttalloc server and prints what must be left.\n\n");
	for (i = 0; i < NUMBERS; i++)
		printf("  --%-12s N   %s (%" PRIu64 ")\n", number_options[i].name, number_options[i].help,
		       number_options[i].preset);
	printf("  --hold             after the steps keep everything and wait for SIGTERM\n"
	       "  --keep             do not free weights and KV cache at the end\n"
	       "  --mark             make the mark `step` after each step\n"
	       "  --scenario NAME    make one well-known fault, and say how it must be found; `list` lists them\n"
	       "  --socket PATH      report there instead of to $TTALLOC_SOCKET or the default\n"
	       "  --version, --help\n");
	return 1;
}

static int bad_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int bad_usage(const char *format, ...)
{
	va_list args;

	fputs("ttalloc-workload: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs("; see --help\n", stderr);
	return -EINVAL;
}

static int parse_number(const struct number_option *o, const char *text, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end)
		return bad_usage("--%s: '%s' is not a number", o->name, text);
	if (errno == ERANGE || *value < o->min || *value > o->max)
		return bad_usage("--%s: %s is out of range", o->name, text);
	return 0;
}

/* What it needs is set; options behind it may say otherwise. */
static int take_scenario(const char *name, struct settings *s)
{
	const struct scenario *scenario = scenario_find(name);

	if (strcmp(name, "list") == 0) {
		scenario_list(stdout);
		return 1;
	}
	if (!scenario)
		return bad_usage("--scenario: '%s' is none of those that --scenario list lists", name);
	s->scenario = scenario;
	if (scenario->processes > 0)
		s->numbers[PROCESSES] = scenario->processes;
	if (scenario->unknown_free > 0)
		s->numbers[UNKNOWN_FREE] = scenario->unknown_free;
	if (scenario->die_after > 0)
		s->numbers[DIE_AFTER] = scenario->die_after;
	if (scenario->keep > s->keep)
		s->keep = scenario->keep;
	s->mark |= scenario->mark;
	return 0;
}

/* 0: go on; 1: done, exit successfully; -EINVAL: said why. */
static int parse_options(int argc, char **argv, struct settings *s)
{
	enum { HOLD = NUMBERS, KEEP, MARK, SCENARIO, SOCKET, VERSION, HELP, OPTIONS };
	struct option options[OPTIONS + 1] = {
		[HOLD] = { "hold", no_argument, NULL, HOLD },
		[KEEP] = { "keep", no_argument, NULL, KEEP },
		[MARK] = { "mark", no_argument, NULL, MARK },
		[SCENARIO] = { "scenario", required_argument, NULL, SCENARIO },
		[SOCKET] = { "socket", required_argument, NULL, SOCKET },
		[VERSION] = { "version", no_argument, NULL, VERSION },
		[HELP] = { "help", no_argument, NULL, HELP },
	};
	int i, c, r = 0;

	for (i = 0; i < NUMBERS; i++) {
		s->numbers[i] = number_options[i].preset;
		options[i] = (struct option){ number_options[i].name, required_argument, NULL, i };
	}
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (c == HOLD)
			s->hold = true;
		else if (c == KEEP)
			s->keep = MODEL_KEEP_WEIGHTS;
		else if (c == MARK)
			s->mark = true;
		else if (c == SCENARIO)
			r = take_scenario(optarg, s);
		else if (c == SOCKET)
			s->socket = optarg;
		else if (c == VERSION)
			return print_version();
		else if (c == HELP)
			return print_help();
		else if (c == ':')
			return bad_usage("%s needs a value", argv[optind - 1]);
		else if (c == '?')
			return bad_usage("unknown option %s", argv[optind - 1]);
		else
			r = parse_number(&number_options[c], optarg, &s->numbers[c]);
		if (r != 0)
			return r;
	}
	return optind < argc ? bad_usage("unexpected argument '%s'", argv[optind]) : 0;
}

static struct model_options model_options(const struct settings *s)
{
	return (struct model_options){
		.devices = (unsigned)s->numbers[DEVICES],
		.layers = (unsigned)s->numbers[LAYERS],
		.steps = s->numbers[STEPS],
		.rate = s->numbers[RATE],
		.seed = s->numbers[SEED],
		.leak = s->numbers[LEAK],
		.double_free = s->numbers[DOUBLE_FREE],
		.unknown_free = s->numbers[UNKNOWN_FREE],
		.die_after = s->numbers[DIE_AFTER],
		.mark = s->mark,
		.keep = s->keep,
		.scenario = s->scenario,
	};
}

/* --- output --- */

static void print_pid(pid_t pid)
{
	printf("pid %ld\n", (long)pid);
	fflush(stdout);
}

/* The last line says that the block is complete. */
static void print_totals(const struct settings *s, struct ledger *all, bool done)
{
	const unsigned processes = (unsigned)s->numbers[PROCESSES], devices = (unsigned)s->numbers[DEVICES];

	if (s->scenario)
		scenario_print(stdout, s->scenario);
	if (s->scenario && done)
		ledger_print_left(stdout, all, processes, devices);
	ledger_print(stdout, all, processes, devices);
	printf("state %s\n", done ? "done" : "holding");
	fflush(stdout);
}

static int complain(const char *what, int error)
{
	fprintf(stderr, "ttalloc-workload: %s: %s\n", what, strerror(-error));
	return error;
}

/* --- a process that reports --- */

/* `told` is where to say that the process holds; -1: print it. */
static void hold(const struct settings *s, struct ledger *all, struct model *m, int told)
{
	int r = model_sync(m);

	if (r < 0)
		complain("the server has not confirmed every event", r);
	if (told < 0)
		print_totals(s, all, false);
	else if (write(told, "h", 1) < 0)
		complain("cannot tell the parent", -errno);
	model_wait(m);
}

static int run_model(const struct settings *s, struct ledger *all, struct model *m, int told)
{
	int r, unconfirmed;

	if (model_sync(m) < 0)
		fprintf(stderr, "ttalloc-workload: no server answers yet: events are kept for it, within bounds\n");
	r = model_run(m);
	if (r < 0)
		complain("cannot go on", r);
	if (s->hold && !stop)
		hold(s, all, m, told);
	model_unload(m);
	unconfirmed = model_sync(m);
	if (unconfirmed < 0)
		complain("the server has not confirmed every event", unconfirmed);
	return r < 0 ? r : unconfirmed;
}

static int report_as(const struct settings *s, struct ledger *all, unsigned process, int told)
{
	const struct model_options options = model_options(s);
	struct ttalloc *t;
	struct model *m;
	int r;

	r = ttalloc_open(&t, s->socket);
	if (r < 0)
		return complain("cannot use the socket", r);
	m = model_new(t, ledger_at(all, process, options.devices), &options, process, &stop);
	r = m ? run_model(s, all, m, told) : complain("cannot start", -ENOMEM);
	model_free(m);
	ttalloc_close(t);
	return r;
}

/* --- the parent of several --- */

static void stop_all(int signal)
{
	const int error = errno;
	int i;

	stop = 1;
	for (i = 0; i < child_count; i++)
		if (children[i].pid > 0)
			kill(children[i].pid, SIGTERM);
	errno = error;
}

static void catch_signals(void)
{
	/* Without SA_RESTART: whoever waits is to look at `stop`. */
	struct sigaction sa = { .sa_handler = stop_all };

	sigemptyset(&sa.sa_mask);
	sigaddset(&sa.sa_mask, SIGTERM);
	sigaddset(&sa.sa_mask, SIGINT);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
}

static _Noreturn void be_child(const struct settings *s, struct ledger *all, unsigned process, int told, pid_t parent,
			       const sigset_t *signals)
{
	child_count = 0;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		stop = 1;
	sigprocmask(SIG_SETMASK, signals, NULL);
	exit(report_as(s, all, process, told) < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

/* Signals are blocked: the handler finds every child on the list. */
static int start_child(const struct settings *s, struct ledger *all, unsigned process, const sigset_t *signals)
{
	const pid_t parent = getpid();
	int ends[2];
	pid_t pid;

	if (pipe(ends) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		be_child(s, all, process, ends[1], parent, signals);
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		return -errno;
	}
	children[child_count].pid = pid;
	children[child_count].told = ends[0];
	child_count++;
	print_pid(pid);
	return 0;
}

static int start_children(const struct settings *s, struct ledger *all)
{
	sigset_t stopping, before;
	unsigned i;
	int r = 0;

	sigemptyset(&stopping);
	sigaddset(&stopping, SIGTERM);
	sigaddset(&stopping, SIGINT);
	sigprocmask(SIG_BLOCK, &stopping, &before);
	for (i = 0; i < s->numbers[PROCESSES] && r == 0; i++)
		r = start_child(s, all, i, &before);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (r < 0)
		stop_all(SIGTERM);
	return r;
}

/* Whether every child that is still there holds. */
static bool all_hold(void)
{
	ssize_t n;
	bool any = false;
	char c;
	int i;

	for (i = 0; i < child_count; i++) {
		do
			n = read(children[i].told, &c, 1);
		while (n < 0 && errno == EINTR);
		any |= n > 0;
	}
	return any && !stop;
}

/* Waits for a child. Return: 0 if it ended as it was meant to. */
static int reap(const struct settings *s, struct child *c)
{
	const pid_t pid = c->pid;
	siginfo_t info;
	int status;

	while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0)
		if (errno != EINTR)
			return -errno;
	c->pid = 0;
	if (waitpid(pid, &status, 0) < 0)
		return -errno;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && s->numbers[DIE_AFTER] > 0)
		return 0;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ECHILD;
}

static int report_by_children(const struct settings *s, struct ledger *all)
{
	int i, r;

	r = start_children(s, all);
	if (r < 0)
		complain("cannot start a process", r);
	if (s->hold && all_hold())
		print_totals(s, all, false);
	for (i = 0; i < child_count; i++)
		if (reap(s, &children[i]) < 0)
			r = -ECHILD;
	return r;
}

int main(int argc, char **argv)
{
	struct settings s = { .socket = NULL };
	struct ledger *all;
	int r;

	r = parse_options(argc, argv, &s);
	if (r != 0)
		return r == 1 ? EXIT_SUCCESS : EXIT_USAGE;
	all = ledger_new((unsigned)s.numbers[PROCESSES], (unsigned)s.numbers[DEVICES]);
	if (!all) {
		complain("cannot start", -ENOMEM);
		return EXIT_FAILURE;
	}
	catch_signals();
	if (s.numbers[PROCESSES] > 1 || s.numbers[DIE_AFTER] > 0) {
		r = report_by_children(&s, all);
	} else {
		print_pid(getpid());
		r = report_as(&s, all, 0, -1);
	}
	print_totals(&s, all, true);
	return r < 0 || ferror(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
