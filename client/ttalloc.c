/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * ttalloc.c - the functions of ttalloc.h: locks, fork, and what each message contains. The connection is uplink.c.
 *
 * Locks, in the order in which they may be taken:
 *  - `asking` of an instance: one question at a time. Held while waiting for an answer; event calls never take it.
 *  - `lock` of an instance: its uplink. Held for one message, and by an event call that waits for the server.
 *  - the descriptors' lock of uplink.c: also guards the list of instances. The only one that fork() takes.
 *
 * fork: the child finds the list and every descriptor consistent, because the forking thread holds the descriptors'
 * lock. Everything else in an instance may have been left half-done by a thread that does not exist in the child: it
 * is thrown away, mutexes included, in the child before fork() returns there. So nobody in the child can meet a lock
 * that nobody holds, and no event of the parent is sent twice.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/ttalloc-proto.h"
#include "client/ttalloc.h"
#include "client/uplink.h"

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)
/* While a question waits, other threads may close the connection, and the number of its descriptor may become
 * something else that never gets ready: look again this often. */
#define LOOK_AGAIN (50 * NS_PER_MS)

static_assert((int)TTALLOC_TRACE == (int)TTALLOC_WIRE_TRACE, "types are those of the wire");
static_assert((int)TTALLOC_L1_SMALL == (int)TTALLOC_WIRE_L1_SMALL, "types are those of the wire");
static_assert((int)TTALLOC_KERNEL_DISPATCH == (int)TTALLOC_WIRE_KERNEL_DISPATCH, "classes are those of the wire");
static_assert((int)TTALLOC_ARCH_QUASAR == (int)TTALLOC_WIRE_ARCH_QUASAR, "architectures are those of the wire");

struct ttalloc {
	pthread_mutex_t asking;
	pthread_mutex_t lock;
	bool permanent;           /* the one of ttalloc_default() */
	pid_t pid;                /* ours; getpid() is a system call */
	uint64_t losses_told;     /* dropped + uncertain when ttalloc_sync() last spoke of them */
	struct ttalloc *next;     /* in the list of all instances */
	struct uplink uplink;
};

/* One question, or several that only mean something on one connection. */
struct errand {
	int64_t deadline;
	uint64_t connection;      /* the one it began on; 0: not begun */
	uint64_t ticket;
};

/* What a call must not change in its thread. */
struct caller {
	int error;
	int cancelable;
};

static struct ttalloc *instances;

/* --- fork --- */

static void forked(struct ttalloc *t)
{
	t->asking = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	t->lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	t->pid = getpid();
	t->losses_told = 0;
	uplink_forked(&t->uplink);
}

static void after_fork_in_child(void)
{
	struct ttalloc *t;

	for (t = instances; t; t = t->next)
		forked(t);
	uplink_descriptors_unlock();
}

static int atfork_error;

static void register_atfork(void)
{
	atfork_error = pthread_atfork(uplink_descriptors_lock, uplink_descriptors_unlock, after_fork_in_child);
}

/* --- instances --- */

static void instances_add(struct ttalloc *t)
{
	uplink_descriptors_lock();
	t->next = instances;
	instances = t;
	uplink_descriptors_unlock();
}

static void instances_remove(struct ttalloc *t)
{
	struct ttalloc **p;

	uplink_descriptors_lock();
	for (p = &instances; *p != t; p = &(*p)->next)
		;
	*p = t->next;
	uplink_descriptors_unlock();
}

static struct ttalloc *instance_new(const char *path)
{
	struct ttalloc *t;

	t = malloc(sizeof(*t));
	if (!t)
		return NULL;
	t->asking = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	t->lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	t->permanent = false;
	t->pid = getpid();
	t->losses_told = 0;
	uplink_init(&t->uplink, path);
	instances_add(t);
	return t;
}

int ttalloc_open(struct ttalloc **tp, const char *socket_path)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	const int error = errno;

	*tp = NULL;
	if (!socket_path)
		socket_path = secure_getenv("TTALLOC_SOCKET");
	if (!socket_path)
		socket_path = "";
	if (strlen(socket_path) >= sizeof(((struct uplink *)0)->path))
		return -ENAMETOOLONG;
	pthread_once(&once, register_atfork);
	if (atfork_error)
		return -atfork_error;
	*tp = instance_new(socket_path);
	errno = error;
	return *tp ? 0 : -ENOMEM;
}

static struct ttalloc *default_instance;

static void open_default(void)
{
	const char *enabled = secure_getenv("TT_ALLOC_TRACKING_ENABLED");

	if (enabled && strcmp(enabled, "1") == 0 && ttalloc_open(&default_instance, NULL) == 0)
		default_instance->permanent = true;
}

struct ttalloc *ttalloc_default(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, open_default);
	return default_instance;
}

/* --- entering and leaving --- */

static struct caller caller_save(void)
{
	struct caller c = { .error = errno };

	/* A thread that is cancelled in send() or poll() would leave the instance locked for ever. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &c.cancelable);
	return c;
}

static void caller_restore(const struct caller *c)
{
	int ignored;

	pthread_setcancelstate(c->cancelable, &ignored);
	errno = c->error;
}

void ttalloc_close(struct ttalloc *t)
{
	struct caller c;

	if (!t)
		return;
	c = caller_save();
	pthread_mutex_lock(&t->lock);
	uplink_settle(&t->uplink);
	pthread_mutex_unlock(&t->lock);
	if (!t->permanent) {
		instances_remove(t);
		uplink_deinit(&t->uplink);
		pthread_mutex_destroy(&t->lock);
		pthread_mutex_destroy(&t->asking);
		free(t);
	}
	caller_restore(&c);
}

/* --- events --- */

static void report(struct ttalloc *t, struct ttalloc_msg_head *m)
{
	struct caller c = caller_save();

	m->process_id = t->pid;
	pthread_mutex_lock(&t->lock);
	uplink_event(&t->uplink, m);
	pthread_mutex_unlock(&t->lock);
	caller_restore(&c);
}

static uint64_t now_epoch(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * (uint64_t)NS_PER_S + (uint64_t)ts.tv_nsec;
}

void ttalloc_alloc(struct ttalloc *t, int device, uint8_t type, uint64_t address, uint64_t size)
{
	if (t)
		report(t, &(struct ttalloc_msg_head){
			.type = TTALLOC_MSG_ALLOC,
			.device_id = device,
			.buffer_type = type,
			.buffer_id = address,
			.size = size,
			.timestamp = now_epoch(),
		});
}

void ttalloc_free(struct ttalloc *t, int device, uint64_t address)
{
	if (t)
		report(t, &(struct ttalloc_msg_head){
			.type = TTALLOC_MSG_FREE,
			.device_id = device,
			.buffer_id = address,
		});
}

void ttalloc_cb_alloc(struct ttalloc *t, int device, uint64_t address, uint64_t size)
{
	if (t)
		report(t, &(struct ttalloc_msg_head){
			.type = TTALLOC_MSG_CB_ALLOC,
			.device_id = device,
			.buffer_id = address,
			.size = size,
			.timestamp = now_epoch(),
		});
}

void ttalloc_cb_free(struct ttalloc *t, int device, uint64_t address, uint64_t size)
{
	if (t)
		report(t, &(struct ttalloc_msg_head){
			.type = TTALLOC_MSG_CB_FREE,
			.device_id = device,
			.buffer_id = address,
			.size = size,
		});
}

void ttalloc_kernel_load(struct ttalloc *t, int device, uint8_t kernel_class, uint64_t kernel_id, uint64_t size)
{
	if (t)
		report(t, &(struct ttalloc_msg_head){
			.type = TTALLOC_MSG_KERNEL_LOAD,
			.device_id = device,
			.buffer_type = kernel_class,
			.buffer_id = kernel_id,
			.size = size,
			.timestamp = now_epoch(),
		});
}

void ttalloc_kernel_unload(struct ttalloc *t, int device, uint64_t kernel_id, uint64_t size)
{
	if (t)
		report(t, &(struct ttalloc_msg_head){
			.type = TTALLOC_MSG_KERNEL_UNLOAD,
			.device_id = device,
			.buffer_id = kernel_id,
			.size = size,
		});
}

/* --- questions --- */

/* Waits, outside the lock, for what -EAGAIN of the uplink asks for. */
static int wait_before_next_try(int fd, short events, int64_t deadline)
{
	int64_t now = uplink_clock();

	if (now >= deadline)
		return -ETIMEDOUT;
	uplink_wait(fd, events, deadline - now < LOOK_AGAIN ? deadline : now + LOOK_AGAIN);
	return 0;
}

static int try_submit(struct ttalloc *t, const struct ttalloc_msg_head *m, struct errand *e, int *fdp)
{
	const uint64_t *connections = &t->uplink.counters.connections;
	int r;

	pthread_mutex_lock(&t->lock);
	r = uplink_submit(&t->uplink, m, &e->ticket);
	if (r == 0 && e->connection != 0 && e->connection != *connections)
		r = -ECONNRESET;
	e->connection = *connections;
	*fdp = t->uplink.fd;
	pthread_mutex_unlock(&t->lock);
	return r;
}

static int submit(struct ttalloc *t, const struct ttalloc_msg_head *m, struct errand *e)
{
	int fd, r;

	do {
		r = try_submit(t, m, e, &fd);
		if (r != -EAGAIN)
			return r;
		r = wait_before_next_try(fd, POLLOUT, e->deadline);
	} while (r == 0);
	return r;
}

static int receive(struct ttalloc *t, const struct errand *e, uint8_t answer[TTALLOC_DIALECT_144])
{
	short events;
	int fd, r;

	do {
		pthread_mutex_lock(&t->lock);
		r = uplink_receive(&t->uplink, e->ticket, answer);
		fd = t->uplink.fd;
		events = t->uplink.backlog.count > 0 ? POLLIN | POLLOUT : POLLIN;
		pthread_mutex_unlock(&t->lock);
		if (r != -EAGAIN)
			return r;
		r = wait_before_next_try(fd, events, e->deadline);
	} while (r == 0);
	return r;
}

static int refuse_answer(struct ttalloc *t)
{
	pthread_mutex_lock(&t->lock);
	uplink_disconnect(&t->uplink);
	pthread_mutex_unlock(&t->lock);
	return -EPROTO;
}

/* Sends what comes before the question, if anything, then the question, and waits for the answer. */
static int ask_in_line(struct ttalloc *t, struct errand *e, const struct ttalloc_msg_head *before,
		       const struct ttalloc_msg_head *question, uint8_t answer[TTALLOC_DIALECT_144])
{
	int r = 0;

	if (before)
		r = submit(t, before, e);
	if (r == 0)
		r = submit(t, question, e);
	if (r == 0)
		r = receive(t, e, answer);
	/* The answer's type is the question's plus one. */
	if (r == 0 && answer[0] != question->type + 1)
		r = refuse_answer(t);
	return r;
}

static int ask(struct ttalloc *t, const struct ttalloc_msg_head *before, const struct ttalloc_msg_head *question,
	       uint8_t answer[TTALLOC_DIALECT_144])
{
	struct caller c = caller_save();
	struct errand e = { .connection = 0 };
	int r;

	pthread_mutex_lock(&t->asking);
	e.deadline = uplink_clock() + TTALLOC_QUESTION_BOUND_MS * NS_PER_MS;
	r = ask_in_line(t, &e, before, question, answer);
	pthread_mutex_unlock(&t->asking);
	caller_restore(&c);
	return r;
}

static struct ttalloc_msg_head request(const struct ttalloc *t, uint8_t type, int device)
{
	return (struct ttalloc_msg_head){ .type = type, .device_id = device, .process_id = t->pid };
}

static uint64_t u64_at(const uint8_t *answer, size_t offset)
{
	uint64_t v;

	memcpy(&v, answer + offset, sizeof(v));
	return v;
}

/* -EIO if events were lost, or may have been, since this was last asked. */
static int tell_losses(struct ttalloc *t)
{
	uint64_t losses;
	int r;

	pthread_mutex_lock(&t->lock);
	losses = t->uplink.counters.dropped + t->uplink.counters.uncertain;
	r = losses == t->losses_told ? 0 : -EIO;
	t->losses_told = losses;
	pthread_mutex_unlock(&t->lock);
	return r;
}

int ttalloc_sync(struct ttalloc *t)
{
	uint8_t answer[TTALLOC_DIALECT_144];
	struct ttalloc_msg_head q;
	int r;

	if (!t)
		return 0;
	q = request(t, TTALLOC_MSG_QUERY, 0);
	r = ask(t, NULL, &q, answer);
	return r == 0 ? tell_losses(t) : r;
}

int ttalloc_dump(struct ttalloc *t)
{
	uint8_t answer[TTALLOC_DIALECT_144];
	struct ttalloc_msg_head dump, q;

	if (!t)
		return -ENOTCONN;
	dump = request(t, TTALLOC_MSG_DUMP, 0);
	q = request(t, TTALLOC_MSG_QUERY, 0);
	return ask(t, &dump, &q, answer);
}

int ttalloc_query(struct ttalloc *t, int device, struct ttalloc_totals *totals)
{
	uint8_t answer[TTALLOC_DIALECT_144];
	struct ttalloc_msg_head q;
	int r;

	if (!t)
		return -ENOTCONN;
	q = request(t, TTALLOC_MSG_QUERY, device);
	r = ask(t, NULL, &q, answer);
	if (r != 0)
		return r;
	*totals = (struct ttalloc_totals){
		.dram = u64_at(answer, TTALLOC_REPLY_DRAM),
		.l1 = u64_at(answer, TTALLOC_REPLY_L1),
		.l1_small = u64_at(answer, TTALLOC_REPLY_L1_SMALL),
		.trace = u64_at(answer, TTALLOC_REPLY_TRACE),
		.cb = u64_at(answer, TTALLOC_REPLY_CB),
		.kernel = u64_at(answer, TTALLOC_REPLY_KERNEL),
	};
	return 0;
}

static int ask_device(struct ttalloc *t, int device, struct ttalloc_reply_info *info)
{
	uint8_t answer[TTALLOC_DIALECT_144];
	struct ttalloc_msg_head q;
	int r;

	if (!t)
		return -ENOTCONN;
	q = request(t, TTALLOC_MSG_DEVICE_INFO_QUERY, device);
	r = ask(t, NULL, &q, answer);
	if (r == 0)
		memcpy(info, answer + TTALLOC_REPLY_INFO_128, sizeof(*info));
	return r;
}

int ttalloc_device_info(struct ttalloc *t, int device, struct ttalloc_capacity *capacity)
{
	struct ttalloc_reply_info info;
	int r;

	r = ask_device(t, device, &info);
	if (r != 0)
		return r;
	if (!info.is_available)
		return -ENODEV;
	*capacity = (struct ttalloc_capacity){
		.dram = info.total_dram,
		.l1 = info.total_l1,
		.dram_channels = info.num_dram_channels,
		.dram_per_channel = info.dram_size_per_channel,
		.l1_per_core = info.l1_size_per_core,
		.arch = info.arch,
	};
	return 0;
}

int ttalloc_device_count(struct ttalloc *t, uint32_t *count)
{
	struct ttalloc_reply_info info;
	int r;

	r = ask_device(t, -1, &info);
	if (r == 0)
		*count = info.num_devices;
	return r;
}

void ttalloc_get_counters(struct ttalloc *t, struct ttalloc_counters *counters)
{
	memset(counters, 0, sizeof(*counters));
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	*counters = t->uplink.counters;
	counters->queued = t->uplink.backlog.count;
	pthread_mutex_unlock(&t->lock);
}
