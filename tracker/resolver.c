/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * resolver.c - asks ttalloc-symbolize for names; the contract is in resolver.h.
 *
 * One request at a time: it is kept until it is answered, and asked again when the program has ended meanwhile. So
 * there is never anything queued, and sending cannot block. The program's end is seen at its pidfd alone; whatever
 * else is wrong with it (a bad answer, none in time, a closed socket) only kills it.
 */
#include "tracker/resolver.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tracker/symbolize.h"

#define NS_PER_MS UINT64_C(1000000)
#define AGAIN_MS 1000    /* after a start that failed for want of something */
#define PAUSED_USERS 64
#define FAIL_STEP 1024   /* frames without a file that are given up per turn */

struct pause {
	uint32_t uid;
	uint64_t until;  /* loop_monotonic() */
};

struct resolver {
	struct resolver_config config;
	char program[PATH_MAX];
	struct loop_work work;       /* to make the next request, and to send it */
	struct loop_timer patience;  /* with an answer; before the next try to start */
	struct loop_timer pause_end;
	struct loop_source socket;   /* fd -1: the program is not running */
	struct loop_source end;      /* the pidfd */
	pid_t pid;
	unsigned starts;
	bool given_up;
	uint32_t module;             /* of the request that is to be answered; 0 = there is none */
	struct symbolize_request request;
	struct symbolize_answer answer;
	struct pause pause[PAUSED_USERS];
	unsigned pauses;
};

/* ---- the request ---- */

void resolver_kick(struct resolver *r)
{
	if (!r->given_up && !r->module && symbols_wanted(r->config.symbols, 0))
		loop_work_add(r->config.loop, &r->work);
}

bool resolver_busy(const struct resolver *r)
{
	return r->module || r->work.queued;
}

/* Whoever is told has to see whether there is more to come. */
static void tell(struct resolver *r)
{
	resolver_kick(r);
	r->config.changed(r->config.data);
}

static void end_request(struct resolver *r, const struct symbolize_answer *a)
{
	for (uint32_t i = 0; i < r->request.offsets; i++)
		symbols_add(r->config.symbols, r->module, r->request.offset[i], a ? a->name[i] : NULL);
	r->module = 0;
	loop_timer_cancel(r->config.loop, &r->patience);
	tell(r);
}

static void give_up(struct resolver *r, const char *why)
{
	r->given_up = true;
	errlog_add(r->config.errlog, loop_now(), "call sites have no names: %s: %s", r->program, why);
	end_request(r, NULL);
}

/* ---- the program ---- */

static int spawn(struct resolver *r, int sock)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t how;
	sigset_t none, all;
	char *args[] = { (char[]){ SYMBOLIZE_PROGRAM }, NULL };
	int e;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&how);
	e = posix_spawn_file_actions_adddup2(&files, sock, STDIN_FILENO);
	if (!e)
		e = posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_RDWR, 0);
	if (!e)
		e = posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
	/* A terminal's SIGINT is meant for the server, which blocks and ignores some signals for itself. */
	posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&how, &none);
	posix_spawnattr_setsigdefault(&how, &all);
	if (!e)
		e = posix_spawn(&r->pid, r->program, &files, &how, args, environ);
	posix_spawnattr_destroy(&how);
	posix_spawn_file_actions_destroy(&files);
	return -e;
}

static void kill_program(struct resolver *r)
{
	loop_remove(r->config.loop, &r->socket);
	(void)pidfd_send_signal(r->end.fd, SIGKILL, NULL, 0);
}

/* The program has ended or is about to, by SIGKILL. */
static void reap(struct resolver *r)
{
	loop_remove(r->config.loop, &r->socket);
	loop_remove(r->config.loop, &r->end);
	close(r->socket.fd);
	if (r->end.fd >= 0)
		close(r->end.fd);
	r->socket.fd = r->end.fd = -1;
	waitpid(r->pid, NULL, 0);
}

/* The program runs, and r->socket.fd is ours. Watches both. */
static int watch(struct resolver *r)
{
	int e;

	r->end.fd = pidfd_open(r->pid, 0);
	e = r->end.fd < 0 ? -errno : loop_add(r->config.loop, &r->end, EPOLLIN);
	if (e == 0)
		e = loop_add(r->config.loop, &r->socket, EPOLLIN);
	if (e < 0) {
		kill(r->pid, SIGKILL);
		reap(r);
	}
	return e;
}

static int start(struct resolver *r)
{
	int pair[2], e;

	r->starts++;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	e = spawn(r, pair[1]);
	close(pair[1]);
	if (e < 0) {
		close(pair[0]);
		return e;
	}
	r->socket.fd = pair[0];
	return watch(r);
}

/* What may be there again a little later. */
static bool is_shortage(int e)
{
	return e == -EMFILE || e == -ENFILE || e == -EAGAIN || e == -ENOMEM;
}

/* There is a request. false: it cannot be sent now. */
static bool ensure_running(struct resolver *r)
{
	int e;

	if (r->socket.fd >= 0)
		return true;
	if (r->starts > RESOLVER_RESTARTS) {
		give_up(r, "it ended too often");
		return false;
	}
	e = start(r);
	if (e == 0)
		return true;
	if (is_shortage(e) && r->starts <= RESOLVER_RESTARTS)
		loop_timer_set(r->config.loop, &r->patience, AGAIN_MS);
	else
		give_up(r, strerror(-e));
	return false;
}

/* An error shows at the pidfd, or as an answer that does not come. */
static void send_request(struct resolver *r)
{
	loop_timer_set(r->config.loop, &r->patience, 2 * r->config.limit_ms);
	(void)send(r->socket.fd, &r->request, sizeof(r->request), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* ---- users that are passed over ---- */

static void pause_user(struct resolver *r, uint32_t uid)
{
	r->pause[r->pauses++ % PAUSED_USERS] =
		(struct pause){ uid, loop_monotonic() + 4 * r->config.limit_ms * NS_PER_MS };
}

/* Until when; 0 = it is not passed over. */
static uint64_t paused_until(const struct resolver *r, uint32_t uid, uint64_t now)
{
	uint64_t until = 0;

	for (unsigned i = 0; i < PAUSED_USERS; i++)
		if (r->pause[i].uid == uid && r->pause[i].until > now && r->pause[i].until > until)
			until = r->pause[i].until;
	return until;
}

/* ---- the next request ---- */

static bool fill_request(struct resolver *r, const struct resolver_module *m)
{
	struct symbolize_request *q = &r->request;
	size_t path_len = strlen(m->path);

	if (m->path[0] != '/' || path_len >= sizeof(q->path) || m->build_id_len > sizeof(q->build_id) ||
	    m->uid == UINT32_MAX || m->gid == UINT32_MAX)
		return false;
	*q = (struct symbolize_request){
		.limit_ms = r->config.limit_ms,
		.uid = m->uid,
		.gid = m->gid,
		.pid = m->pid > 0 ? m->pid : 0,
		.build_id_len = (uint32_t)m->build_id_len,
	};
	if (m->build_id_len)
		memcpy(q->build_id, m->build_id, m->build_id_len);
	memcpy(q->path, m->path, path_len);
	return true;
}

/* The module has no file in which to look. Bounded: there may be more of its frames. */
static void fail_frames(struct resolver *r, uint32_t module)
{
	uint64_t offset[FAIL_STEP];
	unsigned n = symbols_ask(r->config.symbols, module, offset, FAIL_STEP);

	for (unsigned i = 0; i < n; i++)
		symbols_add(r->config.symbols, module, offset[i], NULL);
}

enum next { NEXT_NONE, NEXT_FAILED, NEXT_REQUEST };

/* Makes a request for the first module in the row that can be asked for; or gives up some of its frames, if there is
 * nothing to look into. */
static enum next next_request(struct resolver *r)
{
	struct symbols *s = r->config.symbols;
	uint64_t now = loop_monotonic(), until, first_end = UINT64_MAX;

	for (uint32_t number = symbols_wanted(s, 0); number; number = symbols_wanted(s, number)) {
		struct resolver_module m;

		if (!r->config.module(r->config.data, number, &m) || !fill_request(r, &m)) {
			fail_frames(r, number);
			return NEXT_FAILED;
		}
		until = paused_until(r, m.uid, now);
		if (!until) {
			r->request.offsets = symbols_ask(s, number, r->request.offset, SYMBOLIZE_OFFSETS);
			r->module = number;
			return NEXT_REQUEST;
		}
		if (until < first_end)
			first_end = until;
	}
	if (first_end != UINT64_MAX)
		loop_timer_set(r->config.loop, &r->pause_end, (unsigned)((first_end - now) / NS_PER_MS) + 1);
	return NEXT_NONE;
}

static bool step(struct loop_work *w)
{
	struct resolver *r = loop_owner(w, struct resolver, work);

	enum next next = r->module ? NEXT_REQUEST : next_request(r);

	if (next == NEXT_NONE)
		r->config.changed(r->config.data);
	else if (next == NEXT_FAILED)
		tell(r);
	else if (ensure_running(r))
		send_request(r);
	return false;
}

/* ---- answers ---- */

static bool is_valid(const struct resolver *r, ssize_t n)
{
	const struct symbolize_answer *a = &r->answer;

	if (n != (ssize_t)sizeof(*a) || !r->module || a->result > SYMBOLIZE_LATE || a->names != r->request.offsets)
		return false;
	for (uint32_t i = 0; i < a->names; i++)
		if (a->name[i][SYMBOLIZE_NAME - 1])
			return false;
	return true;
}

static void on_answer(struct loop_source *source, uint32_t events)
{
	struct resolver *r = loop_owner(source, struct resolver, socket);
	ssize_t n = recv(source->fd, &r->answer, sizeof(r->answer), MSG_DONTWAIT | MSG_TRUNC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (!is_valid(r, n)) {
		kill_program(r);
		return;
	}
	if (r->answer.result == SYMBOLIZE_LATE)
		pause_user(r, r->request.uid);
	end_request(r, &r->answer);
}

static void on_end(struct loop_source *source, uint32_t events)
{
	struct resolver *r = loop_owner(source, struct resolver, end);

	reap(r);
	loop_timer_cancel(r->config.loop, &r->patience);
	if (r->module)
		loop_work_add(r->config.loop, &r->work);
}

static void on_patience(struct loop_timer *t)
{
	struct resolver *r = loop_owner(t, struct resolver, patience);

	if (r->socket.fd >= 0)
		kill_program(r);
	else
		loop_work_add(r->config.loop, &r->work);
}

static void on_pause_end(struct loop_timer *t)
{
	resolver_kick(loop_owner(t, struct resolver, pause_end));
}

/* ---- life ---- */

static int find_program(struct resolver *r)
{
	static const char installed[] = TTALLOC_LIBEXECDIR "/" SYMBOLIZE_PROGRAM;
	ssize_t n = readlink("/proc/self/exe", r->program, sizeof(r->program) - sizeof(SYMBOLIZE_PROGRAM));
	char *name;

	if (r->config.program) {
		if (strlen(r->config.program) >= sizeof(r->program))
			return -ENAMETOOLONG;
		strcpy(r->program, r->config.program);
		return 0;
	}
	r->program[n > 0 ? n : 0] = '\0';
	name = strrchr(r->program, '/');
	if (name)
		strcpy(name + 1, SYMBOLIZE_PROGRAM);
	if (!name || access(r->program, X_OK) < 0)
		strcpy(r->program, installed);
	return 0;
}

int resolver_new(struct resolver **rp, const struct resolver_config *config)
{
	struct resolver *r = calloc(1, sizeof(*r));
	int e;

	if (!r)
		return -ENOMEM;
	r->config = *config;
	if (!r->config.limit_ms)
		r->config.limit_ms = RESOLVER_LIMIT_MS;
	r->work.step = step;
	r->patience.expired = on_patience;
	r->pause_end.expired = on_pause_end;
	r->socket = (struct loop_source){ .fd = -1, .ready = on_answer };
	r->end = (struct loop_source){ .fd = -1, .ready = on_end };
	e = find_program(r);
	if (e < 0) {
		free(r);
		return e;
	}
	*rp = r;
	return 0;
}

void resolver_free(struct resolver *r)
{
	if (!r)
		return;
	loop_work_cancel(r->config.loop, &r->work);
	loop_timer_cancel(r->config.loop, &r->patience);
	loop_timer_cancel(r->config.loop, &r->pause_end);
	if (r->socket.fd >= 0) {
		kill_program(r);
		reap(r);
	}
	free(r);
}
