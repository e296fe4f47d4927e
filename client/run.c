/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * run.c - ttalloc run: runs a command and says what it has not given back.
 *
 * Whose a buffer is, is told by the server: it keeps the ancestors of each process at its first report, and as this
 * process is a subreaper, it is among those of every descendant, daemons included. So other users of the same server do
 * not matter, and neither do several runs at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/complain.h"
#include "client/leak-check.h"
#include "client/mount.h"
#include "client/private-server.h"
#include "client/ttalloc-cmd.h"
#include "client/ttalloc-proto.h"
#include "client/witness.h"

static const char who[] = "ttalloc run";
static const char help[] =
	"Usage: ttalloc run [OPTION]... [--] COMMAND [ARGUMENT]...\n"
	"Runs a command and says which device memory it has not given back, grouped by call site.\n"
	"Without a ttallocd, it starts one for this run. Exits with the status of the command.\n\n";
static const char own_help[] =
	"  --allow-silent         with --fail-on-leak: that nothing reports is no error\n"
	"  --private              start a ttallocd for this run in any case\n";

/* As the shell has them. */
enum { STATUS_CANNOT_RUN = 126, STATUS_NOT_FOUND = 127, STATUS_SIGNALLED = 128 };

struct settings {
	struct leak_options leak;
	int is_private;            /* for getopt_long(), as is the next */
	int allow_silent;
	char **command;
};

/* Where programs report. */
struct socket_file {
	const char *path;          /* NULL: none */
	dev_t device;
	ino_t inode;
};

struct run {
	const struct settings *settings;
	struct leak_check check;
	struct leak_report report;
	struct private_server server;
	struct mount mount;
	struct run_scope scope;
	struct socket_file sockets[2];
	sigset_t mask;             /* of whoever started us */
	void (*sigpipe)(int);      /* what it was for them */
	int signals;
	struct witness witness;
	pid_t child;               /* 0: it has ended */
	int status;                /* as the shell has it */
};

/* --- options --- */

/* 0: go on; 1: done, exit successfully; -EINVAL: said why. */
static int parse_options(int argc, char **argv, struct settings *s)
{
	const struct option options[] = {
		LEAK_LONG_OPTIONS,
		{ "private", no_argument, &s->is_private, true },
		{ "allow-silent", no_argument, &s->allow_silent, true },
		{ 0 },
	};
	/* What stands behind the command is its own. */
	const int r = leak_options_parse(&s->leak, argc, argv, "+:", options);

	if (r != 0)
		return r;
	if (s->is_private && s->leak.mount)
		return complain_usage(who, "--private and --mount", "exclude each other");
	s->command = argv + optind;
	return optind < argc ? 0 : complain_usage(who, "no command", "is given");
}

/* --- the server --- */

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int open_private(struct run *run)
{
	int r = private_server_start(&run->server, who);

	if (r < 0)
		return r;
	run->scope.is_private = run->report.is_private = true;
	if (!run->server.compat)
		leak_report_note(&run->report, TTALLOC_COMPAT_SOCKET " is taken: what existing clients report there is "
					       "not in this report");
	r = mount_open(&run->mount, run->server.mount);
	return r < 0 ? complain(who, run->server.mount, r) : 0;
}

/* A program that does not get there reports nothing. */
static int find_socket(struct socket_file *s, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return complain(who, path, errno);
	*s = (struct socket_file){ path, st.st_dev, st.st_ino };
	return 0;
}

static int find_sockets(struct run *run)
{
	int r;

	if (!run->mount.socket && !run->mount.compat_socket) {
		complain_of(who, run->mount.path, "the ttallocd there has no socket");
		return -ENOTCONN;
	}
	r = find_socket(&run->sockets[0], run->mount.socket ? run->mount.socket : run->mount.compat_socket);
	if (r == 0 && run->server.compat)
		r = find_socket(&run->sockets[1], TTALLOC_COMPAT_SOCKET);
	return r;
}

static bool is_gone(const struct socket_file *s)
{
	struct stat st;

	return s->path && (stat(s->path, &st) < 0 || st.st_dev != s->device || st.st_ino != s->inode);
}

/* A living one, else one of our own. */
static int open_server(struct run *run)
{
	const struct leak_options *o = &run->settings->leak;
	int r = -ENOENT;

	if (!run->settings->is_private)
		r = mount_open(&run->mount, mount_path(o->mount));
	if (r < 0 && o->mount)
		return leak_no_mount(o, o->mount, r);
	if (r < 0)
		r = open_private(run);
	run->report.mount = run->mount.path;
	return r == 0 ? find_sockets(run) : r;
}

/* --- the command --- */

/* Signals that are passed on to the command. */
static const int passed_on[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2 };

static int open_signals(struct run *run)
{
	sigset_t set;
	size_t i;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (i = 0; i < sizeof(passed_on) / sizeof(passed_on[0]); i++)
		sigaddset(&set, passed_on[i]);
	if (sigprocmask(SIG_BLOCK, &set, &run->mask) < 0)
		return -errno;
	run->signals = signalfd(-1, &set, SFD_CLOEXEC);
	return run->signals < 0 ? -errno : 0;
}

/* In the child. Reports why not through `tell`. */
static _Noreturn void exec_command(const struct run *run, int tell)
{
	char **command = run->settings->command;
	int error;

	if (setenv("TTALLOC_SOCKET", run->sockets[0].path, 1) == 0 &&
	    setenv("TTALLOC_MOUNT", run->mount.path, 1) == 0 &&
	    setenv("TT_ALLOC_TRACKING_ENABLED", "1", 1) == 0 && signal(SIGPIPE, run->sigpipe) != SIG_ERR &&
	    sigprocmask(SIG_SETMASK, &run->mask, NULL) == 0)
		execvp(command[0], command);
	error = errno;
	if (write(tell, &error, sizeof(error)) < 0)
		_exit(STATUS_CANNOT_RUN);
	_exit(STATUS_CANNOT_RUN);
}

/* 0; a positive number is the errno that kept the command from running; -errno. */
static int start_command(struct run *run)
{
	int pair[2], error = 0;
	ssize_t n;

	if (pipe2(pair, O_CLOEXEC) < 0)
		return -errno;
	run->child = fork();
	if (run->child == 0)
		exec_command(run, pair[1]);
	error = run->child < 0 ? -errno : 0;
	close(pair[1]);
	do
		n = run->child > 0 ? read(pair[0], &error, sizeof(error)) : 0;
	while (n < 0 && errno == EINTR);
	close(pair[0]);
	return error;
}

static void pass_on(struct run *run, int signal)
{
	const bool to_group = witness_saw(&run->witness, signal);

	/* What is sent to the group, as by a terminal, the command gets by itself. */
	if (run->child > 0 && !(to_group && getpgid(run->child) == getpgrp()))
		kill(run->child, signal);
}

static int status_of(int status)
{
	return WIFSIGNALED(status) ? STATUS_SIGNALLED + WTERMSIG(status) : WEXITSTATUS(status);
}

/* The command, its orphans, and the guardian. */
static void reap(struct run *run)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == run->child) {
			run->child = 0;
			run->status = status_of(status);
		} else if (pid == run->server.guardian) {
			private_server_ended(&run->server, status);
		} else if (pid == run->witness.pid) {
			run->witness.pid = 0;
		}
	}
}

static int wait_for_command(struct run *run)
{
	struct signalfd_siginfo info;

	reap(run);
	while (run->child > 0) {
		if (read(run->signals, &info, sizeof(info)) != (ssize_t)sizeof(info)) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (info.ssi_signo == SIGCHLD)
			reap(run);
		else
			pass_on(run, (int)info.ssi_signo);
	}
	return 0;
}

/* --- the whole --- */

/* Whether it is the one that the command has reported to. 0, or -errno that was complained of. */
static int check_server(const struct run *run)
{
	struct mount now;
	int r = mount_open(&now, run->mount.path);

	if (r < 0)
		return leak_no_mount(&run->settings->leak, run->mount.path, r);
	if (strcmp(now.instance, run->mount.instance) != 0) {
		complain_of(who, run->mount.path,
			    "the ttallocd there is not the one from the start: what that one knew is lost");
		r = -ENOTCONN;
	}
	mount_close(&now);
	return r;
}

/* Orphans are children of a subreaper. Where the kernel does not list children, nobody is told. */
static bool left_running(struct run *run)
{
	char path[64];
	bool any = false;
	FILE *file;
	int pid;

	/* Those that have ended since the command did are children still. */
	reap(run);
	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	file = fopen(path, "re");
	while (file && !any && fscanf(file, "%d", &pid) == 1)
		any = pid != run->server.guardian;
	if (file)
		fclose(file);
	return any;
}

/* An absence of leaks says nothing if there is less to see than there was. Who asks to fail when something leaks, or for
 * what leaks as a baseline, is not to be told that all is well. */
static void find_gaps(struct run *run)
{
	static const char silent[] =
		"nothing that the command ran has reported to ttallocd: is it built with a client?";
	static const char lost[] = "events were lost on their way to ttallocd: there may be more leaks, or fewer";
	const struct leak_options *o = &run->settings->leak;
	const char *gap = run->report.lost > 0 ? lost :
			  run->report.processes == 0 && !run->settings->allow_silent ? silent : NULL;

	if (is_gone(&run->sockets[0]) || is_gone(&run->sockets[1]))
		run->report.error = "the socket of ttallocd was removed while the command ran: what was started then could "
				    "not report";
	else if (o->fail || o->write_baseline)
		run->report.error = gap;
	else if (gap)
		leak_report_note(&run->report, gap);
	if (left_running(run))
		leak_report_note(&run->report, "the command has left processes running, which were not waited for");
}

/* The places of double frees get their stacks. 0 or -ENOMEM. */
static int name_double_frees(struct run *run, struct stacks *stacks)
{
	const struct odd_frees *odd = &run->report.odd;
	size_t i;
	int r = mount_stacks(&run->mount, &odd->list, stacks);

	for (i = 0; r == 0 && i < odd->places.count; i++)
		odd->places.groups[i].stack = stacks_find(stacks, odd->places.groups[i].first->site);
	return r;
}

/* Who asked for a report gets one: that of an earlier run would pass for this one's. */
static void report_nothing(struct run *run)
{
	struct leak_list none = { 0 };

	run->report.error = "what the command left is not known: its ttallocd was gone when it had ended, or could not be "
			    "read";
	leak_check_report(&run->check, &run->mount, &none, &run->report, stderr);
}

/* As leak_check_report(). */
static int report(struct run *run)
{
	struct leak_list list = { 0 };
	struct stacks stacks = { 0 };
	int r;

	run->report.command = run->settings->command;
	run->report.status = run->status;
	r = check_server(run);
	if (r < 0) {
		report_nothing(run);
		return r;
	}
	/* Only root and the server's user may ask for it; what died is known without it. */
	mount_command(&run->mount, "scan\n");
	r = mount_left_by(&run->mount, &run->scope, &list, &run->report);
	find_gaps(run);
	if (r == 0)
		r = name_double_frees(run, &stacks);
	if (r == 0) {
		r = leak_check_report(&run->check, &run->mount, &list, &run->report, stderr);
	} else {
		complain(who, run->mount.path, r);
		report_nothing(run);
	}
	leak_list_free(&list);
	odd_frees_free(&run->report.odd);
	stacks_free(&stacks);
	return r;
}

static int run_command(struct run *run)
{
	int r;

	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return complain(who, "cannot become a subreaper", errno);
	run->scope.runner = getpid();
	run->scope.since_us = now_us();
	r = open_signals(run);
	if (r == 0)
		r = witness_start(&run->witness);
	if (r == 0)
		r = start_command(run);
	if (r > 0) {
		waitpid(run->child, NULL, 0);
		run->status = r == ENOENT ? STATUS_NOT_FOUND : STATUS_CANNOT_RUN;
		complain(who, run->settings->command[0], r);
		return 0;
	}
	if (r == 0)
		r = wait_for_command(run);
	if (r < 0)
		return complain(who, "cannot run", r);
	witness_end(&run->witness);
	/* Nobody is there to pass them on to: now they are for us. */
	sigprocmask(SIG_SETMASK, &run->mask, NULL);
	return report(run);
}

/* The status to exit with. A command that has failed tells more by its own. */
static int run_all(struct run *run)
{
	const struct settings *s = run->settings;
	int r = leak_check_open(&run->check, &s->leak);

	if (r == 0)
		r = open_server(run);
	if (r == 0)
		r = run_command(run);
	witness_end(&run->witness);
	mount_close(&run->mount);
	leak_check_close(&run->check);
	if (private_server_end(&run->server, who) < 0 || r < 0)
		return CMD_FAILED;
	if (run->status != 0)
		return run->status;
	return r > 0 ? s->leak.exit_code : run->report.error ? CMD_FAILED : CMD_OK;
}

int cmd_run(int argc, char **argv)
{
	struct settings s = { .leak = { .who = who, .help = help, .own_help = own_help, .exit_code = CMD_LEAKS } };
	struct run run = { .settings = &s, .server = PRIVATE_SERVER_INIT, .signals = -1 };
	int r = parse_options(argc, argv, &s);

	/* 2 could be the command's. */
	if (r != 0)
		return r == 1 ? CMD_OK : CMD_FAILED;
	/* Whoever started us may have ignored it, and children would vanish. */
	signal(SIGCHLD, SIG_DFL);
	/* That nobody reads what we say is no reason not to tell the command's status. */
	run.sigpipe = signal(SIGPIPE, SIG_IGN);
	r = run_all(&run);
	if (run.signals >= 0)
		close(run.signals);
	return r;
}
