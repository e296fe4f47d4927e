/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * watch.c - who a process is, and when it ends; the contract is in watch.h.
 *
 * A pid is only a number that is used again. What makes looking it up in /proc sound is the order: the pidfd first,
 * which is bound to the process itself, then /proc, and at last the question whether the pidfd's process still
 * has its pid (it has, even as a zombie, until it is reaped). If so, nobody else had that number in between.
 */
#include "tracker/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77  /* Linux 6.5 */
#endif

#define NS_PER_S UINT64_C(1000000000)
#define REFUSAL_NS NS_PER_S  /* how long a refusal is remembered */

/* What /proc tells of a process. */
struct proc {
	uint64_t start_ticks;
	uint64_t started;
	uint32_t uid;        /* effective, as in SO_PEERCRED */
	uint32_t gid;
	int32_t inner_pid;
	bool neighbour;
	unsigned ancestor_count;
	int32_t ancestors[PROCESS_ANCESTORS];
	char comm[32];
	char exe[512];
};

/* ---- reading /proc ---- */

/* Reads a small file whole, as a string. 0 or -errno. */
static int read_at(int dir, const char *name, char *text, size_t size)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, text, size - 1);
	close(fd);
	if (n <= 0)
		return -ESRCH;
	text[n] = '\0';
	return 0;
}

/* When a process that started `ticks` after the boot started, as ns since the epoch. */
static uint64_t time_of_ticks(uint64_t ticks)
{
	uint64_t hz = (uint64_t)sysconf(_SC_CLK_TCK);
	uint64_t since_boot = ticks / hz * NS_PER_S + ticks % hz * NS_PER_S / hz;
	uint64_t now = loop_now(), uptime;
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	uptime = (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
	return since_boot < uptime && uptime - since_boot < now ? now - (uptime - since_boot) : now;
}

/* "pid (comm) state ppid ...": the name may hold anything, so the last ')' ends it; field 22 is the start time. */
static int parse_stat(char *text, struct proc *p)
{
	char *name = strchr(text, '('), *end = strrchr(text, ')');
	unsigned long long ticks;

	if (!name || !end || end < name)
		return -EPROTO;
	*end = '\0';
	snprintf(p->comm, sizeof(p->comm), "%s", name + 1);
	if (sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
		   &ticks) != 1)
		return -EPROTO;
	p->start_ticks = ticks;
	p->started = time_of_ticks(ticks);
	return 0;
}

/* The second number of a line like "Uid:\treal\teffective\tsaved\tfs". */
static uint32_t second_number(const char *line)
{
	unsigned number = UINT32_MAX;

	(void)sscanf(line, "%*s %*u %u", &number);
	return number;
}

/* "NSpid:\t4711\t12\t1": its pid here, and in each namespace further in; the last one is its own. */
static void parse_nspid(const char *line, struct proc *p)
{
	const char *at = line + strcspn(line, "\t"), *end = line + strcspn(line, "\n");
	unsigned fields = 0;

	for (; at < end; at += strcspn(at, "\t\n")) {
		p->inner_pid = (int32_t)strtol(++at, NULL, 10);
		fields++;
	}
	p->neighbour = fields == 1;
}

static const char *find_line(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	while (at && at != text && at[-1] != '\n')
		at = strstr(at + 1, key);
	return at;
}

static int parse_status(const char *text, struct proc *p)
{
	const char *uid = find_line(text, "Uid:"), *gid = find_line(text, "Gid:"), *nspid = find_line(text, "NSpid:");

	if (!uid || !gid)
		return -EPROTO;
	p->uid = second_number(uid);
	p->gid = second_number(gid);
	if (nspid)
		parse_nspid(nspid, p);
	return 0;
}

static int read_proc_dir(int dir, struct proc *p)
{
	char text[32768];  /* of a member of hundreds of groups, NSpid stands far behind */
	ssize_t n;
	int r;

	r = read_at(dir, "stat", text, sizeof(text));
	if (r == 0)
		r = parse_stat(text, p);
	if (r == 0)
		r = read_at(dir, "status", text, sizeof(text));
	if (r == 0)
		r = parse_status(text, p);
	if (r < 0)
		return r;
	n = readlinkat(dir, "exe", p->exe, sizeof(p->exe) - 1);
	p->exe[n > 0 ? n : 0] = '\0';  /* a kernel thread, a zombie, or somebody else's and we are not root */
	return 0;
}

/* 0 for the first process of a namespace; -errno. */
static int32_t parent_of(int32_t pid)
{
	char path[32], text[512];
	int32_t parent = 0;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	r = read_at(AT_FDCWD, path, text, sizeof(text));
	if (r < 0)
		return r;
	/* The name may hold anything, so the last ')' ends it. */
	const char *end = strrchr(text, ')');
	return end && sscanf(end + 1, " %*c %d", &parent) == 1 ? parent : -EPROTO;
}

/* Who started it, as far up as can be seen. When one of them ends on the way, its children have got another parent:
 * it begins anew. What is known in the end may be a part. */
static void read_ancestors(int32_t pid, struct proc *p)
{
	int32_t at;

	for (unsigned tries = 3; tries; tries--) {
		p->ancestor_count = 0;
		at = parent_of(pid);
		while (at > 0 && p->ancestor_count < PROCESS_ANCESTORS) {
			p->ancestors[p->ancestor_count++] = at;
			at = at == 1 ? 0 : parent_of(at);
		}
		if (at >= 0)
			return;
	}
}

static int read_proc(int32_t pid, struct proc *p)
{
	char path[32];
	int dir, r;

	snprintf(path, sizeof(path), "/proc/%d", pid);
	dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	r = read_proc_dir(dir, p);
	close(dir);
	if (r == 0)
		read_ancestors(pid, p);
	return r;
}

/* Whether the process of the pidfd was not reaped yet, so that its pid is nobody else's. */
static bool has_pid(int pidfd)
{
	return pidfd_send_signal(pidfd, 0, NULL, 0) == 0 || errno != ESRCH;
}

static bool is_alive(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) == 0;
}

/* ---- watches ---- */

int watch_set_init(struct watch_set *set, struct loop *loop, struct ingest *ingest)
{
	*set = (struct watch_set){
		.loop = loop,
		.ingest = ingest,
		.by_slot = calloc(REGISTRY_MAX_PROCESSES_DEFAULT, sizeof(struct watch *)),
	};
	return set->by_slot ? 0 : -ENOMEM;
}

static void forget(struct watch *w)
{
	w->set->by_slot[w->slot] = NULL;
	loop_remove(w->set->loop, &w->source);
	if (w->source.fd >= 0)
		close(w->source.fd);
	free(w);
}

void watch_set_deinit(struct watch_set *set)
{
	const struct registry *reg = set->ingest->registry;

	if (!set->by_slot)
		return;
	for (uint32_t slot = 0; (slot = registry_process_next(reg, slot)) != PROCESS_NONE; slot++)
		if (set->by_slot[slot])
			forget(set->by_slot[slot]);
	free(set->by_slot);
	set->by_slot = NULL;
}

static void end(struct watch *w)
{
	loop_remove(w->set->loop, &w->source);
	if (w->source.fd >= 0)
		close(w->source.fd);
	w->source.fd = -1;
	w->ended = true;
	w->set->exits++;
	ingest_exit(w->set->ingest, w->slot, loop_now());
}

static void on_exit_of_process(struct loop_source *s, uint32_t events)
{
	struct watch *w = loop_owner(s, struct watch, source);

	end(w);
	if (!w->users)
		forget(w);
}

/* The process of a slot gets a watch; `pidfd` (-1 = none) is taken over in any case. */
static int watch_new(struct watch_set *set, const struct process_identity *id, const struct proc *p, int pidfd,
		     struct watch **wp)
{
	struct watch *w = malloc(sizeof(*w));
	int r = w ? 0 : -ENOMEM;

	if (r == 0) {
		*w = (struct watch){
			.source = { .fd = pidfd, .ingest = true, .late = true, .ready = on_exit_of_process },
			.set = set,
			.pid = id->pid,
			.inner_pid = p->inner_pid,
			.uid = id->uid,
			.neighbour = p->neighbour,
		};
		if (pidfd >= 0)
			r = loop_add(set->loop, &w->source, EPOLLIN);
	}
	if (r == 0)
		r = registry_process_add(set->ingest->registry, id, loop_now(), &w->slot);
	if (r == 0 && !set->by_slot[w->slot]) {
		w->ended = registry_process(set->ingest->registry, w->slot)->ended;
		set->by_slot[w->slot] = *wp = w;
		return 0;
	}
	if (r == 0)
		*wp = set->by_slot[w->slot];  /* the same process again, seen while it dies */
	if (w)
		loop_remove(set->loop, &w->source);
	if (pidfd >= 0)
		close(pidfd);
	free(w);
	return r;
}

/* The watch of the newest process of that pid, if it has not ended as far as we know and is the user's. */
static struct watch *watch_find(const struct watch_set *set, int32_t pid, uint32_t uid)
{
	uint32_t slot = registry_process_find(set->ingest->registry, pid);
	struct watch *w = slot == PROCESS_NONE ? NULL : set->by_slot[slot];

	return w && !w->ended && w->uid == uid ? w : NULL;
}

/* ---- the process at the other end ---- */

static bool is_shortage(int r)
{
	return r == -EMFILE || r == -ENFILE || r == -ENOMEM;
}

/* A pidfd of the process that connected; -ESRCH when it is gone, or a shortage. *exact: it cannot be anybody else's. */
static int peer_pidfd(int sock, int32_t pid, bool *exact)
{
	socklen_t len = sizeof(int);
	int fd;

	*exact = true;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &fd, &len) == 0)
		return fd;
	if (errno == ENOPROTOOPT) {
		*exact = false;
		fd = pidfd_open(pid, 0);
		if (fd >= 0)
			return fd;
	}
	return is_shortage(-errno) ? -errno : -ESRCH;
}

/* Fills *p as far as it is certain that it is about the pidfd's process. 0 or a shortage. */
static int look_up(int32_t pid, int pidfd, struct proc *p)
{
	int r = read_proc(pid, p);

	if (r < 0 || !has_pid(pidfd))
		*p = (struct proc){ 0 };
	return is_shortage(r) ? r : 0;
}

static struct process_identity identity_of(int32_t pid, uint32_t uid, uint32_t gid, const struct proc *p)
{
	return (struct process_identity){
		.pid = pid,
		.uid = uid,
		.gid = gid,
		.start_ticks = p->start_ticks,
		.started = p->started,
		.comm = p->comm[0] ? p->comm : NULL,
		.exe = p->exe[0] ? p->exe : NULL,
		.ancestors = p->ancestors,
		.ancestor_count = p->ancestor_count,
	};
}

/* A process of which the credentials are all that is known: it shares the watch of its other connections. */
static int watch_stranger(struct watch_set *set, const struct ucred *cred, struct watch **wp)
{
	struct proc nothing = { 0 };
	struct process_identity id = identity_of(cred->pid, cred->uid, cred->gid, &nothing);

	*wp = cred->pid ? watch_find(set, cred->pid, cred->uid) : NULL;
	return *wp ? 0 : watch_new(set, &id, &nothing, -1, wp);
}

static int watch_process(struct watch_set *set, const struct ucred *cred, int pidfd, bool exact, struct watch **wp)
{
	struct proc p = { 0 };
	struct process_identity id;
	int r = look_up(cred->pid, pidfd, &p);
	/* Without SO_PEERPIDFD the pid may have been somebody else's already when we opened it. */
	bool other = !exact && p.start_ticks && p.uid != cred->uid;
	/* It was reaped before we came to look, but it may have had another connection when we did. */
	bool again = !p.start_ticks && watch_find(set, cred->pid, cred->uid);

	if (r < 0 || other || again) {
		close(pidfd);
		return r < 0 ? r : watch_stranger(set, cred, wp);
	}
	id = identity_of(cred->pid, cred->uid, cred->gid, &p);
	return watch_new(set, &id, &p, pidfd, wp);
}

static int find_peer(struct watch_set *set, int sock, struct watch **wp)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	bool exact;
	int pidfd;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	if (cred.pid <= 0)
		return watch_stranger(set, &cred, wp);  /* its namespace is out of our sight */
	*wp = watch_find(set, cred.pid, cred.uid);
	if (*wp && (*wp)->source.fd >= 0 && is_alive((*wp)->source.fd))
		return 0;
	pidfd = peer_pidfd(sock, cred.pid, &exact);
	if (pidfd == -ESRCH)
		return watch_stranger(set, &cred, wp);
	return pidfd < 0 ? pidfd : watch_process(set, &cred, pidfd, exact, wp);
}

int watch_peer(struct watch_set *set, int sock, struct watch **wp)
{
	int r = find_peer(set, sock, wp);

	if (r < 0)
		return r;
	(*wp)->users++;
	return 0;
}

void watch_put(struct watch *w)
{
	if (--w->users)
		return;
	if (!w->ended && w->source.fd < 0)
		end(w);
	if (w->ended)
		forget(w);
}

/* ---- the process that is said to act ---- */

static struct watch_refusal *refusal_of(struct watch_set *set, int32_t pid)
{
	return &set->refusal[(uint32_t)pid % WATCH_REFUSALS];
}

/* Whether it is known that `uid` may not act as that process: reading /proc for each event that says so, on any number
 * of connections, would keep everybody else waiting. */
static bool is_refused(struct watch_set *set, int32_t pid, uint32_t uid)
{
	const struct watch_refusal *n = refusal_of(set, pid);

	return n->pid == pid && n->uid == uid && loop_monotonic() < n->until;
}

static struct watch *watch_other(struct watch_set *set, int32_t pid, uint32_t uid, int pidfd)
{
	struct proc p = { 0 };
	struct process_identity id;
	struct watch *w;

	if (look_up(pid, pidfd, &p) < 0 || !p.start_ticks || p.uid != uid) {
		*refusal_of(set, pid) = (struct watch_refusal){ pid, uid, loop_monotonic() + REFUSAL_NS };
		close(pidfd);
		return NULL;
	}
	id = identity_of(pid, p.uid, p.gid, &p);
	return watch_new(set, &id, &p, pidfd, &w) == 0 && !w->ended ? w : NULL;
}

struct watch *watch_known(const struct watch_set *set, const struct watch *peer, int32_t pid)
{
	return peer->neighbour ? watch_find(set, pid, peer->uid) : NULL;
}

struct watch *watch_look_up(struct watch_set *set, const struct watch *peer, int32_t pid)
{
	int pidfd;

	if (!peer->neighbour || is_refused(set, pid, peer->uid))
		return NULL;
	pidfd = pidfd_open(pid, 0);
	if (pidfd < 0)
		return NULL;
	if (!is_alive(pidfd)) {
		close(pidfd);
		return NULL;
	}
	return watch_other(set, pid, peer->uid, pidfd);
}
