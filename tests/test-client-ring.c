/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-client-ring.c - libttalloc's side of the ring, against a server that the test plays.
 *
 * The server is a thread that accepts, makes rings and answers questions; it books nothing by itself. The test looks
 * at the memory, books, sleeps and dies in its place. Nothing here depends on how long anything takes.
 */
#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/ring.h"
#include "client/site.h"
#include "client/ttalloc-proto.h"
#include "client/ttalloc-ring.h"
#include "client/ttalloc.h"
#include "tests/module-through.h"
#include "tests/util-frames.h"

#define MESSAGE TTALLOC_DIALECT_144
#define SEGMENT TTALLOC_SEGMENT_RECORDS

/* ck_assert() writes to a file each time: too slow for what is checked a million times, and only for tests. */
#define NEED(condition)                                        \
	do {                                                   \
		if (!(condition))                              \
			ck_abort_msg("not so: %s", #condition); \
	} while (0)

/* --- the system under the library --- */

static _Atomic size_t map_limit = SIZE_MAX;  /* longer mappings without access, which are the library's, fail */

void *__real_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t off);
void *__wrap_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t off);
void *__wrap_mmap(void *at, size_t len, int prot, int flags, int fd, off_t off);

void *__wrap_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
	if (prot == PROT_NONE && len > map_limit) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return __real_mmap64(at, len, prot, flags, fd, off);
}

void *__wrap_mmap(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
	return __wrap_mmap64(at, len, prot, flags, fd, off);
}

static void (*_Atomic on_readlink)(void);  /* is called in the middle of a site's definition */
static pid_t forked_in_event;

ssize_t __real_readlink(const char *name, char *text, size_t size);
ssize_t __wrap_readlink(const char *name, char *text, size_t size);

ssize_t __wrap_readlink(const char *name, char *text, size_t size)
{
	void (*f)(void) = atomic_load(&on_readlink);

	if (f)
		f();
	return __real_readlink(name, text, size);
}

static _Atomic time_t put_back;  /* seconds that were taken off the clock of the stamps */

int __real_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	int r = __real_clock_gettime(clock, ts);

	ts->tv_sec -= clock == CLOCK_MONOTONIC ? atomic_load(&put_back) : 0;
	return r;
}

static _Atomic unsigned system_calls;  /* by number */

long __real_syscall(long number, long a, long b, long c);
long __wrap_syscall(long number, long a, long b, long c);

long __wrap_syscall(long number, long a, long b, long c)
{
	atomic_fetch_add(&system_calls, 1);
	return __real_syscall(number, a, b, c);
}

static _Atomic bool silence;    /* the server leaves requests without an answer */

int __real_poll(struct pollfd *fds, nfds_t n, int ms);
int __wrap_poll(struct pollfd *fds, nfds_t n, int ms);

/* The answer about a ring, if it will come, is waited for without a bound: the machine may be busy. (Questions wait in
 * shorter steps, or much longer.) */
int __wrap_poll(struct pollfd *fds, nfds_t n, int ms)
{
	const bool ring = n == 1 && (fds->events & POLLIN) && ms > 50 && !atomic_load(&silence);

	return __real_poll(fds, n, ring ? -1 : ms);
}

/* --- the server --- */

enum manners {
	GIVE,            /* rings */
	REFUSE,
	SILENT,          /* about rings */
	BAD_MAGIC,
	BAD_SEALS,
	BAD_SIZE,
	BAD_CLOCK,
	ONE_DESCRIPTOR,
	DIE,             /* hang up instead of an answer */
	HOLD,            /* answer a question when a ring is asked for, then that */
};

struct conn {
	int fd;                          /* -1: over */
	struct ttalloc_ring *ring;       /* NULL: none was given */
	int memory, event;
	unsigned asked;                  /* times, for a ring */
	unsigned questions;
	struct ttalloc_msg_head request;
	uint8_t in[MESSAGE];
	size_t in_len;
	size_t count, room;
	struct ttalloc_msg_head *messages;  /* events */
};

#define CONNS 32
static char dir[] = "/tmp/test-client-ring-XXXXXX";
static char path[64];
static struct ttalloc *t;
static pthread_t server;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;  /* of all below */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct conn conns[CONNS];
static struct conn *seen = &conns[0];  /* the one that expect_event() and others look at */
static unsigned conn_count;
static int listener = -1, orders[2];
static _Atomic enum manners manners;
static uint32_t clock_kind = TTALLOC_HAS_COUNTER ? TTALLOC_CLOCK_COUNTER : TTALLOC_CLOCK_MONOTONIC;
static _Atomic bool crashes;             /* a connection ends without the last booking */

static struct ttalloc_lane *lane(const struct conn *c, size_t i)
{
	return (struct ttalloc_lane *)(void *)((uint8_t *)c->ring + TTALLOC_LANE_OFFSET(i));
}

static const struct ttalloc_record *record(const struct conn *c, size_t i, uint64_t pos)
{
	const struct ttalloc_lane *l = lane(c, i);

	return &l->segment[l->order[pos / SEGMENT % TTALLOC_SEGMENTS]][pos % SEGMENT];
}

static uint64_t tail(const struct conn *c, size_t i)
{
	return atomic_load(&lane(c, i)->tail);
}

/* Books up to a position and gives back what is empty then. */
static void book(struct conn *c, size_t i, uint64_t end)
{
	struct ttalloc_lane *l = lane(c, i);
	uint64_t head = atomic_load(&l->head), freed = atomic_load(&l->freed_count);

	for (; head < end; head++) {
		NEED(record(c, i, head)->seq == (uint32_t)head);
		if (head % SEGMENT == SEGMENT - 1) {
			l->freed[freed % TTALLOC_SEGMENTS] = l->order[head / SEGMENT % TTALLOC_SEGMENTS];
			freed++;
		}
	}
	atomic_store(&l->head, end);
	atomic_store(&l->freed_count, freed);
}

static void book_all(struct conn *c)
{
	uint32_t i;

	for (i = 0; i < atomic_load(&c->ring->lanes); i++)
		book(c, i, tail(c, i));
}

/* The last time: nothing is given back, so that it can be looked at afterwards. */
static void book_finally(struct conn *c)
{
	uint32_t i;

	for (i = 0; i < atomic_load(&c->ring->lanes); i++)
		atomic_store(&lane(c, i)->head, tail(c, i));
	atomic_fetch_or(&c->ring->attention, TTALLOC_ATTENTION_GONE);
}

static void event_came(struct conn *c)
{
	if (c->count == c->room) {
		c->room = c->room ? c->room * 2 : 1024;
		c->messages = realloc(c->messages, c->room * sizeof(*c->messages));
		NEED(c->messages);
	}
	memcpy(&c->messages[c->count++], c->in, sizeof(*c->messages));
}

/* Whether a message or a part of it came. */
static bool receive(struct conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, MESSAGE - c->in_len, MSG_DONTWAIT);

	c->in_len += n > 0 ? (size_t)n : 0;
	return n > 0;
}

/* Nothing more can be sent to it; what was is not lost, so that a test can tell how often each event came. */
static void conn_end(struct conn *c)
{
	shutdown(c->fd, SHUT_RD);
	while (receive(c)) {
		if (c->in_len < MESSAGE)
			continue;
		c->in_len = 0;
		if (c->in[0] != TTALLOC_MSG_RING && c->in[0] != TTALLOC_MSG_QUERY)
			event_came(c);
	}
	if (c->ring && !crashes && !(atomic_load(&c->ring->attention) & TTALLOC_ATTENTION_GONE))
		book_finally(c);
	close(c->fd);
	c->fd = -1;
}

static void make_ring(struct conn *c)
{
	c->memory = memfd_create("ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	NEED(c->memory >= 0);
	NEED(ftruncate(c->memory, (off_t)TTALLOC_RING_SIZE) == 0);
	c->ring = mmap(NULL, TTALLOC_RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, c->memory, 0);
	NEED(c->ring != MAP_FAILED);
	c->ring->magic = manners == BAD_MAGIC ? 1 : TTALLOC_RING_MAGIC;
	c->ring->version = TTALLOC_RING_VERSION;
	c->ring->clock = manners == BAD_CLOCK ? 7 : clock_kind;
	if (manners != BAD_SEALS)
		NEED(fcntl(c->memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
	c->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	NEED(c->event >= 0);
}

static void send_answer(struct conn *c, const struct ttalloc_msg_head *m, unsigned descriptors)
{
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(2 * sizeof(int))] = { 0 };
	uint8_t message[MESSAGE] = { 0 };
	struct iovec bytes = { .iov_base = message, .iov_len = sizeof(message) };
	struct msghdr h = { .msg_iov = &bytes, .msg_iovlen = 1 };
	const int fds[2] = { c->memory, c->event };

	memcpy(message, m, sizeof(*m));
	if (descriptors > 0) {
		h.msg_control = control;
		h.msg_controllen = CMSG_SPACE(descriptors * sizeof(int));
		CMSG_FIRSTHDR(&h)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&h)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&h)->cmsg_len = CMSG_LEN(descriptors * sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&h)), fds, descriptors * sizeof(int));
	}
	NEED(sendmsg(c->fd, &h, MSG_NOSIGNAL) == sizeof(message));
}

static void answer_request(struct conn *c)
{
	struct ttalloc_msg_head m = {
		.type = TTALLOC_MSG_RING_RESPONSE,
		.size = TTALLOC_RING_SIZE,
		.buffer_id = TTALLOC_RING_MAGIC,
	};

	if (manners == REFUSE) {
		m = (struct ttalloc_msg_head){ .type = TTALLOC_MSG_RING_RESPONSE, .device_id = -ENOMEM };
		send_answer(c, &m, 0);
		return;
	}
	make_ring(c);
	if (manners == BAD_SIZE)
		m.size = 4096;
	send_answer(c, &m, manners == ONE_DESCRIPTOR ? 1 : 2);
}

static void message_came(struct conn *c)
{
	const struct ttalloc_msg_head response = { .type = TTALLOC_MSG_RESPONSE };
	struct ttalloc_msg_head m;

	memcpy(&m, c->in, sizeof(m));
	if (m.type == TTALLOC_MSG_RING) {
		c->request = m;
		c->asked++;
		if (manners == HOLD)
			send_answer(c, &response, 0);
		if (manners == DIE)
			conn_end(c);
		else if (manners != SILENT)
			answer_request(c);
	} else if (m.type == TTALLOC_MSG_QUERY) {
		c->questions++;
		if (manners != HOLD)
			send_answer(c, &response, 0);
	} else {
		event_came(c);
	}
}

static void conn_read(struct conn *c)
{
	if (!receive(c)) {
		conn_end(c);
	} else if (c->in_len == MESSAGE) {
		c->in_len = 0;
		message_came(c);
	}
}

static void *serve(void *arg)
{
	struct pollfd p[CONNS + 2];
	unsigned i, n;
	char order = 0;

	while (order != 'q') {
		pthread_mutex_lock(&lock);
		p[0] = (struct pollfd){ .fd = orders[0], .events = POLLIN };
		p[1] = (struct pollfd){ .fd = listener, .events = POLLIN };
		n = conn_count;
		for (i = 0; i < n; i++)
			p[2 + i] = (struct pollfd){ .fd = conns[i].fd, .events = POLLIN };
		pthread_mutex_unlock(&lock);
		NEED(poll(p, 2 + n, -1) >= 0);
		pthread_mutex_lock(&lock);
		for (i = 0; i < n; i++)
			if (conns[i].fd >= 0 && p[2 + i].revents)
				conn_read(&conns[i]);
		if (p[1].revents & POLLIN) {
			NEED(conn_count < CONNS);
			conns[conn_count].memory = conns[conn_count].event = -1;
			conns[conn_count].fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
			NEED(conns[conn_count].fd >= 0);
			conn_count++;
		}
		if (p[0].revents & POLLIN)
			NEED(read(orders[0], &order, 1) == 1);
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
	}
	return arg;
}

static void server_start(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	strcpy(sa.sun_path, path);
	unlink(path);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	NEED(listener >= 0);
	NEED(bind(listener, (struct sockaddr *)&sa, sizeof(sa)) == 0);
	NEED(listen(listener, 64) == 0);
	NEED(pipe2(orders, O_CLOEXEC) == 0);
	NEED(pthread_create(&server, NULL, serve, NULL) == 0);
}

/* The server dies: every connection breaks, nothing is booked any more. */
static void server_stop(void)
{
	unsigned i;

	if (listener < 0)
		return;
	NEED(write(orders[1], "q", 1) == 1);
	pthread_join(server, NULL);
	close(orders[0]);
	close(orders[1]);
	unlink(path);
	close(listener);
	listener = -1;
	for (i = 0; i < conn_count; i++)
		if (conns[i].fd >= 0)
			conn_end(&conns[i]);
}

static void conns_free(void)
{
	for (; conn_count > 0; conn_count--) {
		struct conn *c = &conns[conn_count - 1];

		if (c->ring)
			munmap(c->ring, TTALLOC_RING_SIZE);
		close(c->memory);
		close(c->event);
		free(c->messages);
		*c = (struct conn){ 0 };
	}
}

/* Waits for something that the server's thread is going to see. */
#define AWAIT(condition)                                        \
	do {                                                    \
		pthread_mutex_lock(&lock);                      \
		while (!(condition))                            \
			pthread_cond_wait(&changed, &lock);     \
		pthread_mutex_unlock(&lock);                    \
	} while (0)

static void setup_at_depth(const char *depth)
{
	setenv("TTALLOC_STACK_DEPTH", depth, 1);
	strcpy(strrchr(dir, '-'), "-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sock", dir);
	atomic_store(&put_back, 0);
	manners = GIVE;
	atomic_store(&silence, false);
	crashes = false;
	seen = &conns[0];
	server_start();
	ck_assert_int_eq(ttalloc_open(&t, path), 0);
}

/* Most tests count records: without call sites there is one for each event, and nothing else. */
static void setup(void)
{
	setup_at_depth("0");
}

static void setup_sites(void)
{
	setup_at_depth("20");
}

static void teardown(void)
{
	ttalloc_close(t);
	t = NULL;
	server_stop();
	conns_free();
	rmdir(dir);
}

/* Mappings of rings in this process, the server's and the library's. */
static unsigned rings_mapped(void)
{
	char line[512];
	unsigned n = 0;
	FILE *f = fopen("/proc/self/maps", "re");

	NEED(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, "memfd:ring") != NULL;
	fclose(f);
	return n;
}

/* Bytes of memory that is private and may be written. */
static uint64_t private_bytes(void)
{
	unsigned long start, end;
	char line[512];
	uint64_t n = 0;
	FILE *f = fopen("/proc/self/maps", "re");

	NEED(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2 && strstr(line, " rw-p "))
			n += end - start;
	fclose(f);
	return n;
}

static void wait_for(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}

static struct ttalloc_counters counters(void)
{
	struct ttalloc_counters c;

	ttalloc_get_counters(t, &c);
	return c;
}

static void report_frees(uint64_t first, uint64_t last)
{
	for (; first <= last; first++)
		ttalloc_free(t, 0, first);
}

/* Right after a connection broke, the next attempt may have to wait for its time: ask again. */
static int ask(void)
{
	int r;

	do
		r = ttalloc_sync(t);
	while (r == -ECONNRESET);
	return r;
}

static bool is_event(const struct ttalloc_record *r)
{
	return r->kind < TTALLOC_RECORD_MODULE;
}

/* The lane has the frees of first..last at positions from on. */
static void expect_frees(const struct conn *c, size_t i, uint64_t from, uint64_t first, uint64_t last)
{
	for (; first <= last; first++, from++) {
		const struct ttalloc_record *r = record(c, i, from);

		NEED(r->kind == TTALLOC_RECORD_FREE);
		NEED(r->seq == (uint32_t)from);
		NEED(r->event.address == first);
	}
}

/* --- the records --- */

START_TEST(request_is_exact)
{
	report_frees(1, 1);
	ck_assert_uint_eq(conn_count, 1);
	ck_assert_uint_eq(conns[0].asked, 1);
	ck_assert_uint_eq(conns[0].request.buffer_id, TTALLOC_RING_MAGIC);
	ck_assert_uint_eq(conns[0].request.size, TTALLOC_RING_VERSION);
	ck_assert_int_eq(conns[0].request.process_id, getpid());
	ck_assert_int_eq(conns[0].request.device_id, 0);
	ck_assert_uint_eq(conns[0].count, 0);
	ck_assert_uint_eq(atomic_load(&conns[0].ring->lanes), 2);
	ck_assert_uint_eq(atomic_load(&conns[0].ring->barrier), 1);
	ck_assert_uint_eq(counters().rings, 1);
}
END_TEST

static const struct ttalloc_record zero;

static void expect_event(uint64_t pos, uint8_t kind, int device, uint8_t type, uint64_t address, uint64_t size)
{
	const struct ttalloc_record *r = record(seen, 1, pos);

	ck_assert_uint_eq(r->kind, kind);
	ck_assert_uint_eq(r->seq, pos);
	ck_assert_int_eq(r->event.device, device);
	ck_assert_uint_eq(r->event.type, type);
	ck_assert_uint_eq(r->event.address, address);
	ck_assert_uint_eq(r->event.size, size);
	ck_assert_uint_eq(r->event.tag, 0);
	ck_assert_mem_eq(r->zero, zero.zero, sizeof(r->zero));
	ck_assert_mem_eq(r->event.zero, zero.event.zero, sizeof(r->event.zero));
	if (pos > 0)
		ck_assert_uint_ge(r->stamp, record(seen, 1, pos - 1)->stamp);
}

/* Position of the nth event in lane 1. */
static uint64_t event_pos(uint64_t n)
{
	uint64_t pos;

	for (pos = 0;; pos++) {
		ck_assert_uint_lt(pos, tail(seen, 1));
		if (is_event(record(seen, 1, pos)) && n-- == 0)
			return pos;
	}
}

START_TEST(every_event_has_its_record)
{
	uint64_t before, after;

	clock_kind = _i ? TTALLOC_CLOCK_MONOTONIC : clock_kind;
	before = _i ? ttalloc_clock_monotonic() : ttalloc_ticks_ordered();
	ttalloc_alloc(t, 1023, TTALLOC_L1_SMALL, UINT64_MAX, UINT64_C(1) << 56);
	ttalloc_free(t, 1, 0x100);
	ttalloc_cb_alloc(t, 2, 0x20000, 2048);
	ttalloc_cb_free(t, 2, 0x20000, 2048);
	ttalloc_kernel_load(t, 4, TTALLOC_KERNEL_DISPATCH, 0x1001, 8192);
	ttalloc_kernel_unload(t, 4, 0x1001, 8192);
	ttalloc_alloc(t, -7, 255, 0, 0);
	after = _i ? ttalloc_clock_monotonic() : ttalloc_ticks_ordered();
	expect_event(event_pos(0), TTALLOC_RECORD_ALLOC, 1023, 3, UINT64_MAX, UINT64_C(1) << 56);
	expect_event(event_pos(1), TTALLOC_RECORD_FREE, 1, 0, 0x100, 0);
	expect_event(event_pos(2), TTALLOC_RECORD_CB_ALLOC, 2, 0, 0x20000, 2048);
	expect_event(event_pos(3), TTALLOC_RECORD_CB_FREE, 2, 0, 0x20000, 2048);
	expect_event(event_pos(4), TTALLOC_RECORD_KERNEL_LOAD, 4, 2, 0x1001, 8192);
	expect_event(event_pos(5), TTALLOC_RECORD_KERNEL_UNLOAD, 4, 0, 0x1001, 8192);
	expect_event(event_pos(6), TTALLOC_RECORD_ALLOC, -7, 255, 0, 0);
	ck_assert_uint_eq(event_pos(6), tail(&conns[0], 1) - 1);
	ck_assert_uint_ge(record(&conns[0], 1, 0)->stamp, before);
	ck_assert_uint_le(record(seen, 1, event_pos(6))->stamp, after);
	ck_assert_uint_eq(counters().sent, 7);
	/* Each from its own call site: they are told in this order. */
	for (uint64_t n = 0; n < 7; n++)
		ck_assert_uint_eq(record(seen, 1, event_pos(n))->event.site, n + 1);
	clock_kind = TTALLOC_HAS_COUNTER ? TTALLOC_CLOCK_COUNTER : TTALLOC_CLOCK_MONOTONIC;
}
END_TEST

/* --- segments --- */

START_TEST(segment_freed_last_is_taken_first)
{
	const struct ttalloc_lane *l;

	report_frees(1, 3 * SEGMENT);
	l = lane(&conns[0], 1);
	ck_assert_uint_eq(l->order[0], 0);
	ck_assert_uint_eq(l->order[1], 1);
	ck_assert_uint_eq(l->order[2], 2);
	/* Segments 0 and 1 come back, in this order. */
	book(&conns[0], 1, 2 * SEGMENT + 5);
	report_frees(3 * SEGMENT + 1, 6 * SEGMENT);
	ck_assert_uint_eq(l->order[3], 1);
	ck_assert_uint_eq(l->order[4], 0);
	ck_assert_uint_eq(l->order[5], 3);
	expect_frees(&conns[0], 1, 2 * SEGMENT, 2 * SEGMENT + 1, 6 * SEGMENT);
	/* A server that keeps up leaves the lane in one or two segments. */
	for (uint64_t n = 6 * SEGMENT + 1; n <= 100 * SEGMENT; n++) {
		report_frees(n, n);
		book(&conns[0], 1, n);
	}
	for (unsigned i = 6; i < 100; i++)
		NEED(l->order[i] <= 4);
}
END_TEST

START_TEST(full_ring_drops_and_counts)
{
	const uint64_t all = TTALLOC_LANE_RECORDS;

	report_frees(1, all + 10);
	ck_assert_uint_eq(counters().sent, all);
	ck_assert_uint_eq(counters().dropped, 10);
	ck_assert_uint_eq(atomic_load(&lane(&conns[0], 1)->dropped), 10);
	expect_frees(&conns[0], 1, 0, 1, all);
	/* Room for one more segment, twice around. */
	book(&conns[0], 1, SEGMENT + 17);
	report_frees(all + 1, all + SEGMENT + 3);
	ck_assert_uint_eq(counters().dropped, 13);
	expect_frees(&conns[0], 1, SEGMENT, SEGMENT + 1, all + SEGMENT);
	book_all(&conns[0]);
	report_frees(1, all);
	expect_frees(&conns[0], 1, all + SEGMENT, 1, all);
	ck_assert_uint_eq(counters().dropped, 13);
	ck_assert_uint_eq(counters().queued, 0);
	ck_assert_uint_eq(counters().stalls, 0);
	ck_assert_int_eq(ttalloc_sync(t), -EIO);
	ck_assert_int_eq(ttalloc_sync(t), 0);
}
END_TEST

/* A definition starts only where all of it fits. */
START_TEST(definitions_are_whole)
{
	char name[TTALLOC_NAME_MAX + 1];
	struct conn *c = &conns[0];
	const struct ttalloc_record *r;
	uint64_t i, n;

	/* A tag of 255 bytes takes 6 records: across two segments, and with 5 left not at all. */
	memset(name, 'x', TTALLOC_NAME_MAX);
	name[TTALLOC_NAME_MAX] = 0;
	report_frees(1, SEGMENT - 3);
	ttalloc_tag_push(name);
	report_frees(1, 1);
	r = record(c, 1, SEGMENT - 3);
	ck_assert_uint_eq(r->kind, TTALLOC_RECORD_TAG);
	ck_assert_uint_eq(r->definition.number, 1);
	ck_assert_uint_eq(r->definition.length, TTALLOC_NAME_MAX);
	for (i = 1; i < 6; i++)
		ck_assert_uint_eq(record(c, 1, SEGMENT - 3 + i)->kind, TTALLOC_RECORD_MORE);
	r = record(c, 1, SEGMENT + 3);
	ck_assert_uint_eq(r->kind, TTALLOC_RECORD_FREE);
	ck_assert_uint_eq(r->event.tag, 1);
	ttalloc_tag_pop();
	n = TTALLOC_LANE_RECORDS - (SEGMENT + 4) - 5;
	report_frees(1, n);
	ck_assert_uint_eq(tail(c, 1), TTALLOC_LANE_RECORDS - 5);
	name[0] = 'y';
	ttalloc_tag_push(name);
	report_frees(1, 2);
	ck_assert_uint_eq(tail(c, 1), TTALLOC_LANE_RECORDS - 3);
	ck_assert_uint_eq(record(c, 1, TTALLOC_LANE_RECORDS - 4)->event.tag, 0);
	book_all(c);
	report_frees(1, 1);
	r = record(c, 1, TTALLOC_LANE_RECORDS - 3);
	ck_assert_uint_eq(r->kind, TTALLOC_RECORD_TAG);
	ck_assert_uint_eq(r->definition.number, 2);
	ck_assert_uint_eq(record(c, 1, TTALLOC_LANE_RECORDS + 3)->event.tag, 2);
	ttalloc_tag_pop();
}
END_TEST

/* --- wake-ups --- */

static bool woken(const struct conn *c)
{
	uint64_t n;

	return read(c->event, &n, sizeof(n)) == sizeof(n);
}

/* By every event until it says that it is awake: who comes second must not rely on the first. */
START_TEST(sleeping_server_is_woken)
{
	struct conn *c = &conns[0];

	report_frees(1, 1);
	ck_assert(!woken(c));
	atomic_store(&c->ring->attention, TTALLOC_ATTENTION_WAKE);
	report_frees(2, 2);
	ck_assert(woken(c));
	ck_assert(!woken(c));
	report_frees(3, 3);
	ck_assert(woken(c));
	ck_assert_uint_eq(atomic_load(&c->ring->attention), TTALLOC_ATTENTION_WAKE);
	atomic_store(&c->ring->attention, 0);
	report_frees(4, 20);
	ck_assert(!woken(c));
	expect_frees(c, 1, 0, 1, 20);
}
END_TEST

/* --- rings that are not to be had --- */

static unsigned descriptors(void)
{
	unsigned n = 0;
	int fd;

	for (fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return n;
}

START_TEST(without_a_ring_messages)
{
	static const enum manners ways[] = { REFUSE, BAD_MAGIC, BAD_SEALS, BAD_SIZE, BAD_CLOCK, ONE_DESCRIPTOR };
	const unsigned before = descriptors();
	uint64_t n;

	manners = ways[_i];
	report_frees(1, 10);
	ck_assert_uint_eq(counters().rings, 0);
	ck_assert_uint_eq(counters().sent, 10);
	ck_assert_uint_eq(counters().stalls, 0);
	AWAIT(conns[0].count == 10);
	for (n = 0; n < 10; n++)
		ck_assert_uint_eq(conns[0].messages[n].buffer_id, n + 1);
	ck_assert_uint_eq(conns[0].asked, 1);
	/* No descriptor stays but the connection's two ends and the server's own. */
	ck_assert_uint_eq(descriptors(), before + 2U + (conns[0].memory >= 0) + (conns[0].event >= 0));
}
END_TEST

/* The answer comes after the bound: what went by message meanwhile is confirmed, then the ring is taken. */
START_TEST(late_ring_is_taken_in_order)
{
	manners = SILENT;
	atomic_store(&silence, true);
	report_frees(1, 3);
	ck_assert_uint_eq(counters().stalls, 1);
	ck_assert_uint_eq(counters().rings, 0);
	AWAIT(conns[0].count == 3);
	pthread_mutex_lock(&lock);
	manners = GIVE;
	atomic_store(&silence, false);
	answer_request(&conns[0]);
	pthread_mutex_unlock(&lock);
	report_frees(4, 6);
	ck_assert_uint_eq(counters().rings, 1);
	ck_assert_uint_eq(conns[0].count, 3);
	ck_assert_uint_eq(conns[0].questions, 1);
	expect_frees(&conns[0], 1, 0, 4, 6);
	ck_assert_uint_eq(counters().stalls, 1);
	ck_assert_uint_eq(counters().sent, 6);
	ck_assert_int_eq(ttalloc_sync(t), 0);
}
END_TEST

/* The answer is met by a question that waits for its own. */
START_TEST(late_ring_is_met_by_a_question)
{
	manners = SILENT;
	atomic_store(&silence, true);
	report_frees(1, 1);
	pthread_mutex_lock(&lock);
	manners = GIVE;
	atomic_store(&silence, false);
	answer_request(&conns[0]);
	pthread_mutex_unlock(&lock);
	ck_assert_int_eq(ttalloc_sync(t), 0);
	report_frees(2, 2);
	ck_assert_uint_eq(counters().rings, 1);
	expect_frees(&conns[0], 1, 0, 2, 2);
}
END_TEST

static void *ask_once(void *arg)
{
	*(int *)arg = ttalloc_sync(t);
	return NULL;
}

/* An event that waits for a ring meets the answer to another thread's question. */
START_TEST(answers_of_others_are_kept)
{
	pthread_t thread;
	int result = -1;

	manners = HOLD;
	ck_assert_int_eq(pthread_create(&thread, NULL, ask_once, &result), 0);
	AWAIT(conn_count == 1 && conns[0].questions == 1);
	report_frees(1, 1);
	ck_assert_uint_eq(counters().rings, 1);
	pthread_join(thread, NULL);
	ck_assert_int_eq(result, 0);
}
END_TEST

START_TEST(server_that_hangs_up_instead)
{
	manners = DIE;
	report_frees(1, 1);
	pthread_mutex_lock(&lock);
	manners = GIVE;
	pthread_mutex_unlock(&lock);
	while (counters().connections < 2 || counters().rings == 0)
		ttalloc_sync(t), report_frees(2, 2);
	ck_assert_uint_eq(conns[1].messages[0].buffer_id, 1);
}
END_TEST

/* Address space for all lanes, for some, and for not even two. */
START_TEST(little_address_space)
{
	static const struct {
		size_t limit;
		unsigned rings;
	} ways[] = {
		{ TTALLOC_RING_SIZE, 1 },
		{ TTALLOC_RING_SIZE - 1, 1 },
		{ TTALLOC_LANE_OFFSET(2), 1 },
		{ TTALLOC_LANE_OFFSET(2) - 1, 0 },
	};

	map_limit = ways[_i].limit;
	report_frees(1, 5);
	ck_assert_uint_eq(counters().rings, ways[_i].rings);
	ck_assert_uint_eq(counters().sent, 5);
	if (ways[_i].rings) {
		expect_frees(&conns[0], 1, 0, 1, 5);
	} else {
		AWAIT(conns[0].count == 5);
	}
	map_limit = SIZE_MAX;
}
END_TEST

/* --- threads --- */

/* How often each address came, over all rings and messages; definitions are left out. */
static void tally(const struct conn *c, uint32_t *times, size_t n, bool only_booked)
{
	uint64_t pos, end;
	size_t i;

	for (i = 0; i < c->count; i++) {
		NEED(c->messages[i].buffer_id < n);
		times[c->messages[i].buffer_id]++;
	}
	for (i = 0; c->ring && i < atomic_load(&c->ring->lanes); i++) {
		end = only_booked ? atomic_load(&lane(c, i)->head) : tail(c, i);
		NEED(end <= TTALLOC_LANE_RECORDS);
		for (pos = 0; pos < end; pos++) {
			const struct ttalloc_record *r = record(c, i, pos);

			NEED(r->seq == (uint32_t)pos);
			if (!is_event(r))
				continue;
			NEED(r->event.address < n);
			times[r->event.address]++;
		}
	}
}

static void *report_one(void *arg)
{
	report_frees((uint64_t)(uintptr_t)arg, (uint64_t)(uintptr_t)arg);
	return NULL;
}

START_TEST(lane_goes_to_the_next_thread)
{
	pthread_t thread;
	uintptr_t i;

	report_frees(0, 0);
	for (i = 1; i <= 200; i++) {
		ck_assert_int_eq(pthread_create(&thread, NULL, report_one, (void *)i), 0);
		pthread_join(thread, NULL);
	}
	ck_assert_uint_eq(atomic_load(&conns[0].ring->lanes), 3);
	expect_frees(&conns[0], 2, 0, 1, 200);
	ck_assert_uint_eq(counters().sent, 201);
}
END_TEST

#define CROWD 100
#define CROWD_EVENTS 300

static pthread_barrier_t all_here;

static void *report_in_a_crowd(void *arg)
{
	const uint64_t first = (uint64_t)(uintptr_t)arg * CROWD_EVENTS;

	report_frees(first, first);
	pthread_barrier_wait(&all_here);
	report_frees(first + 1, first + CROWD_EVENTS - 1);
	pthread_barrier_wait(&all_here);
	return NULL;
}

START_TEST(more_threads_than_lanes)
{
	static uint32_t times[CROWD * CROWD_EVENTS];
	pthread_t threads[CROWD];
	uint64_t pos, last = 0;
	uintptr_t i;

	memset(times, 0, sizeof(times));
	ck_assert_int_eq(pthread_barrier_init(&all_here, NULL, CROWD), 0);
	for (i = 0; i < CROWD; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, report_in_a_crowd, (void *)i), 0);
	for (i = 0; i < CROWD; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&all_here);
	ck_assert_uint_eq(counters().sent, CROWD * CROWD_EVENTS);
	ck_assert_uint_eq(counters().dropped, 0);
	ck_assert_uint_eq(atomic_load(&conns[0].ring->lanes), TTALLOC_LANES);
	/* What 37 threads had in common. */
	ck_assert_uint_eq(tail(&conns[0], 0), (CROWD - (TTALLOC_LANES - 1)) * CROWD_EVENTS);
	for (pos = 0; pos < tail(&conns[0], 0); pos++) {
		NEED(record(&conns[0], 0, pos)->stamp >= last);
		last = record(&conns[0], 0, pos)->stamp;
	}
	tally(&conns[0], times, CROWD * CROWD_EVENTS, false);
	for (i = 0; i < CROWD * CROWD_EVENTS; i++)
		NEED(times[i] == 1);
}
END_TEST

static _Atomic uint64_t baton;
#define PASSES 20000

/* Two threads report in turn: who comes later must not have the earlier stamp. */
static void *report_in_turn(void *arg)
{
	const uint64_t me = (uint64_t)(uintptr_t)arg;
	uint64_t n;

	for (n = me; n < PASSES; n += 2) {
		while (atomic_load_explicit(&baton, memory_order_acquire) != n)
			sched_yield();
		ttalloc_free(t, 0, n);
		atomic_store_explicit(&baton, n + 1, memory_order_release);
	}
	return NULL;
}

START_TEST(stamps_keep_happens_before)
{
	pthread_t threads[2];
	uint64_t next[3] = { 0 }, n, last = 0;
	const struct ttalloc_record *r;
	uintptr_t i;

	atomic_store(&baton, 0);
	for (i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, report_in_turn, (void *)i), 0);
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	for (n = 0; n < PASSES; n++) {
		i = next[1] < tail(&conns[0], 1) && record(&conns[0], 1, next[1])->event.address == n ? 1 : 2;
		r = record(&conns[0], i, next[i]++);
		NEED(r->event.address == n);
		NEED(r->stamp >= last);
		last = r->stamp;
	}
}
END_TEST

static pthread_key_t late_key;

#if !defined(__has_feature)
#define __has_feature(x) 0
#endif

/* Rounds of destructors in which a thread reports: all there are. ThreadSanitizer cannot follow into the last. */
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define ROUNDS 2
#else
#define ROUNDS PTHREAD_DESTRUCTOR_ITERATIONS
#endif

static void report_late(void *arg)
{
	const uintptr_t n = (uintptr_t)arg;

	report_frees(n, n);
	if (n % (ROUNDS + 1) != 0)
		pthread_setspecific(late_key, (void *)(n + 1));
}

static void *report_and_leave(void *arg)
{
	pthread_setspecific(late_key, arg);
	return report_one((void *)((uintptr_t)arg - 1));
}

START_TEST(destructors_may_report)
{
	pthread_t thread;
	uintptr_t i;

	ck_assert_int_eq(pthread_key_create(&late_key, report_late), 0);
	report_frees(0, 0);
	for (i = 0; i < 100; i++) {
		ck_assert_int_eq(pthread_create(&thread, NULL, report_and_leave, (void *)(i * (ROUNDS + 1) + 2)), 0);
		pthread_join(thread, NULL);
	}
	ck_assert_uint_eq(atomic_load(&conns[0].ring->lanes), 3);
	ck_assert_uint_eq(counters().sent, 1 + 100 * (ROUNDS + 1));
	expect_frees(&conns[0], 2, 0, 1, 100 * (ROUNDS + 1));
	pthread_key_delete(late_key);
}
END_TEST

static void *report_when_cancelled(void *arg)
{
	pthread_cancel(pthread_self());
	report_frees(1, 5);
	pthread_testcancel();
	return arg;
}

START_TEST(no_cancellation_point_and_errno_is_kept)
{
	pthread_t thread;
	void *result;

	ck_assert_int_eq(pthread_create(&thread, NULL, report_when_cancelled, NULL), 0);
	pthread_join(thread, &result);
	ck_assert_ptr_eq(result, PTHREAD_CANCELED);
	ck_assert_uint_eq(counters().sent, 5);
	errno = 4711;
	report_frees(1, 5);
	atomic_store(&conns[0].ring->attention, TTALLOC_ATTENTION_WAKE);
	frames_alloc(t, 1, 3);
	ttalloc_tag_push("tag");
	report_frees(1, 1);
	ttalloc_tag_pop();
	ck_assert_int_eq(errno, 4711);
}
END_TEST

/* --- signals --- */

#define STORM_ADDRESSES 2000000
static uint32_t *storm_times;
static _Atomic uint64_t storm_next;
static _Atomic uint64_t storm_from_handlers;
static _Atomic bool storm_over;

static void report_from_handler(int sig)
{
	(void)sig;
	ttalloc_free(t, 0, atomic_fetch_add(&storm_next, 1));
	atomic_fetch_add(&storm_from_handlers, 1);
}

static void handle(int sig)
{
	struct sigaction sa = { .sa_handler = report_from_handler, .sa_flags = SA_RESTART };

	ck_assert_int_eq(sigaction(sig, &sa, NULL), 0);
}

static void *bombard(void *arg)
{
	static const int signals[] = { SIGUSR1, SIGUSR2, SIGURG, SIGIO };
	const pthread_t target = *(pthread_t *)arg;
	unsigned i;

	for (i = 0; !atomic_load(&storm_over); i++)
		pthread_kill(target, signals[i % 4]);
	return NULL;
}

/* At most as deep as there are lanes for: nothing is lost. With four kinds of signals, what is lost is counted. */
START_TEST(handlers_report_into_events)
{
	static const int signals[] = { SIGUSR1, SIGUSR2, SIGURG, SIGIO };
	const size_t kinds = _i == 0 ? 2 : 4;
	pthread_t self = pthread_self(), bomber;
	uint64_t n, reported, found = 0;
	size_t i;

	storm_times = calloc(STORM_ADDRESSES, sizeof(*storm_times));
	NEED(storm_times);
	atomic_store(&storm_next, 0);
	atomic_store(&storm_from_handlers, 0);
	atomic_store(&storm_over, false);
	report_from_handler(0);
	for (i = 0; i < 4; i++) {
		if (i < kinds)
			handle(signals[i]);
		else
			signal(signals[i], SIG_IGN);
	}
	ck_assert_int_eq(pthread_create(&bomber, NULL, bombard, &self), 0);
	for (n = 0; n < 900000 && atomic_load(&storm_from_handlers) < 20000; n++) {
		ttalloc_free(t, 0, atomic_fetch_add(&storm_next, 1));
	}
	atomic_store(&storm_over, true);
	pthread_join(bomber, NULL);
	for (i = 0; i < 4; i++)
		signal(signals[i], SIG_IGN);
	reported = atomic_load(&storm_next);
	tally(&conns[0], storm_times, STORM_ADDRESSES, false);
	for (n = 0; n < reported; n++) {
		NEED(storm_times[n] <= 1);
		found += storm_times[n];
	}
	ck_assert_uint_eq(counters().sent, found);
	ck_assert_uint_eq(found + counters().dropped, reported);
	if (kinds == 2)
		ck_assert_uint_eq(counters().dropped, 0);
	free(storm_times);
}
END_TEST

static void fork_in_handler(int sig)
{
	const int error = errno;
	pid_t pid = fork();

	(void)sig;
	if (pid == 0) {
		ttalloc_free(t, 0, 2);
		return;
	}
	waitpid(pid, NULL, 0);
	errno = error;
}

/* The child ends where the parent was interrupted: maybe in the middle of an event. */
START_TEST(handler_may_fork)
{
	const pid_t parent = getpid();
	struct sigaction sa = { .sa_handler = fork_in_handler, .sa_flags = SA_RESTART };
	struct itimerval soon = { .it_value.tv_usec = 1 }, off = { 0 };
	int i;

	report_frees(1, 1);
	ck_assert_int_eq(sigaction(SIGALRM, &sa, NULL), 0);
	for (i = 0; i < 20; i++) {
		setitimer(ITIMER_REAL, &soon, NULL);
		report_frees(1, 2000);
		setitimer(ITIMER_REAL, &off, NULL);
		if (getpid() != parent)
			_exit(0);
	}
	signal(SIGALRM, SIG_IGN);
	ck_assert_uint_eq(counters().dropped, 0);
	ck_assert_uint_eq(counters().sent, 1 + 20 * 2000);
}
END_TEST

static void fork_in_event(void)
{
	atomic_store(&on_readlink, NULL);
	forked_in_event = fork();
}

/* Where it is certain: while the event finds out what the program's file is. */
START_TEST(event_that_is_forked_goes_on)
{
	atomic_store(&on_readlink, fork_in_event);
	frames_alloc(t, 1, 3);
	ck_assert_ptr_null(atomic_load(&on_readlink));
	if (forked_in_event == 0) {
		site_depth = 0;
		if (counters().sent != 0 || counters().rings != 0)
			_exit(1);
		report_frees(2, 4);
		_exit(counters().sent != 3 || ttalloc_sync(t) != 0);
	}
	wait_for(forked_in_event);
	AWAIT(conn_count == 2 && conns[1].fd < 0);
	expect_frees(&conns[1], 1, 0, 2, 4);
	ck_assert_uint_eq(counters().sent, 1);
	ck_assert_uint_ne(record(seen, 1, event_pos(0))->event.site, 0);
}
END_TEST

/* --- fork --- */

static _Atomic bool raise_in_fork;
static void (*in_fork[3])(void);  /* before, in the parent, in the child */

static void before_fork(void)
{
	if (atomic_load(&raise_in_fork))
		raise(SIGUSR1);
	if (in_fork[0])
		in_fork[0]();
}

static void after_fork_in_parent(void)
{
	if (in_fork[1])
		in_fork[1]();
}

static void after_fork_in_child(void)
{
	if (in_fork[2])
		in_fork[2]();
}

/* Handlers before fork() run in the reverse order: this one after the library's, which holds a lock then; those after
 * it before the library's. */
static __attribute__((constructor)) void before_fork_setup(void)
{
	pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

static void *report_in_fork(void *arg)
{
	pid_t pid;

	atomic_store(&raise_in_fork, true);
	pid = fork();
	if (pid == 0)
		_exit(0);
	atomic_store(&raise_in_fork, false);
	waitpid(pid, NULL, 0);
	report_frees(2, 2);
	return arg;
}

/* A handler's event in the middle of fork(): of a thread that would have to connect, of one that has a lane, and of one
 * that would have to get one. */
START_TEST(handler_may_report_in_fork)
{
	pthread_t thread;

	atomic_store(&storm_next, 0);
	handle(SIGUSR1);
	report_in_fork(NULL);
	ck_assert_uint_eq(counters().sent, 2);
	report_in_fork(NULL);
	ck_assert_uint_eq(counters().sent, 4);
	ck_assert_int_eq(pthread_create(&thread, NULL, report_in_fork, NULL), 0);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(counters().sent, 6);
	ck_assert_uint_eq(counters().dropped, 0);
	signal(SIGUSR1, SIG_IGN);
}
END_TEST

/* Everything that the library can do. */
static void use_all(void)
{
	const struct ttalloc_capacity capacity = { .dram = 1 };
	struct ttalloc *other;

	NEED(ttalloc_open(&other, path) == 0);
	ttalloc_device(t, 1, &capacity);
	report_frees(50, 52);
	NEED(ttalloc_sync(t) == 0);
	ttalloc_close(other);
}

static void report_before_all(void)
{
	report_frees(50, 52);
}

/* Handlers of the program that were registered before the library's, of a process that has a lane or has not. */
START_TEST(handler_of_fork_may_do_all)
{
	void (*const call)(void) = _i & 1 ? use_all : report_before_all;
	const uint64_t before = _i & 2 ? 4 : 0;
	const uint64_t bytes = private_bytes();
	unsigned i;
	pid_t pid;

	report_frees(1, before);
	for (i = 0; i < 3; i++)
		in_fork[i] = call;
	pid = fork();
	for (i = 0; i < 3; i++)
		in_fork[i] = NULL;
	if (pid == 0) {
		report_frees(101, 105);
		NEED(counters().sent == 3 + 5 && counters().dropped == 0 && ttalloc_sync(t) == 0);
		NEED(rings_mapped() == 2);
		/* What is mapped in place of a ring to which an event is still to be written. */
		NEED(private_bytes() < bytes + TTALLOC_RING_SIZE);
		_exit(0);
	}
	wait_for(pid);
	report_frees(201, 202);
	ck_assert_uint_eq(counters().sent, before + 3 + 3 + 2);
	ck_assert_uint_eq(counters().dropped, 0);
	ck_assert_int_eq(ttalloc_sync(t), 0);
}
END_TEST

START_TEST(child_has_its_own_ring)
{
	pid_t pid;

	report_frees(1, 3);
	ck_assert_uint_eq(rings_mapped(), 2);
	pid = fork();
	if (pid == 0) {
		if (counters().sent != 0 || counters().rings != 0)
			_exit(1);
		/* The server's mapping is there, the library's is not. */
		if (rings_mapped() != 1)
			_exit(3);
		report_frees(101, 105);
		if (counters().sent != 5 || ttalloc_sync(t) != 0)
			_exit(2);
		ttalloc_close(t);
		_exit(0);
	}
	wait_for(pid);
	report_frees(4, 6);
	AWAIT(conn_count == 2 && conns[1].fd < 0);
	ck_assert_int_eq(conns[1].request.process_id, pid);
	expect_frees(&conns[1], 1, 0, 101, 105);
	expect_frees(&conns[0], 1, 0, 1, 6);
	ck_assert_uint_eq(tail(&conns[0], 1), 6);
	ck_assert_uint_eq(tail(&conns[1], 1), 5);
}
END_TEST

/* --- a server that dies --- */

START_TEST(what_was_not_booked_is_delivered_to_the_next)
{
	struct ttalloc_msg_head *m;
	uint64_t n;

	ttalloc_alloc(t, 3, TTALLOC_L1, 0, 4096);
	report_frees(1, 9);
	book(&conns[0], 1, event_pos(4));
	crashes = _i == 0;
	if (!crashes)
		/* It takes its time to close: what it says by the ring comes first. */
		atomic_fetch_or(&conns[0].ring->attention, TTALLOC_ATTENTION_GONE);
	else
		server_stop();
	ck_assert_uint_eq(counters().sent, 10);
	if (crashes) {
		/* It is noticed by a question at the latest. */
		ck_assert_int_eq(ask(), -ENOENT);
		ck_assert_uint_eq(counters().queued, 6);
		ck_assert_uint_eq(counters().sent, 4);
		report_frees(10, 12);
		ck_assert_uint_eq(counters().queued, 9);
		server_start();
	} else {
		report_frees(10, 12);
	}
	ck_assert_int_eq(ask(), 0);
	ck_assert_uint_eq(counters().queued, 0);
	ck_assert_uint_eq(counters().uncertain, 0);
	AWAIT(conns[1].count >= (crashes ? 9 : 7));
	for (n = 4; n <= (crashes ? 12 : 10); n++) {
		m = &conns[1].messages[n - 4];
		ck_assert_uint_eq(m->type, TTALLOC_MSG_FREE);
		ck_assert_uint_eq(m->buffer_id, n);
		ck_assert_int_eq(m->process_id, getpid());
		ck_assert_uint_eq(m->timestamp, 0);
	}
	report_frees(13, 20);
	ck_assert_uint_eq(counters().sent, 21);
	ck_assert_uint_eq(counters().rings, 1);
}
END_TEST

/* Allocations that are sent again say when they were made. */
START_TEST(requeued_events_keep_their_time)
{
	struct timespec before, after;
	struct ttalloc_msg_head *m;

	clock_kind = _i ? TTALLOC_CLOCK_MONOTONIC : clock_kind;
	report_frees(1, 1);
	clock_gettime(CLOCK_REALTIME, &before);
	ttalloc_kernel_load(t, 7, TTALLOC_KERNEL_FABRIC, 0x77, 4096);
	clock_gettime(CLOCK_REALTIME, &after);
	crashes = true;
	server_stop();
	server_start();
	ck_assert_int_eq(ask(), 0);
	ck_assert_uint_eq(conns[1].count, 2);
	m = &conns[1].messages[1];
	ck_assert_uint_eq(m->type, TTALLOC_MSG_KERNEL_LOAD);
	ck_assert_int_eq(m->device_id, 7);
	ck_assert_uint_eq(m->buffer_type, TTALLOC_KERNEL_FABRIC);
	ck_assert_uint_eq(m->buffer_id, 0x77);
	ck_assert_uint_eq(m->size, 4096);
	/* Two clocks are compared: they may be a little apart. */
	ck_assert_int_ge((int64_t)m->timestamp, before.tv_sec * 1000000000 + before.tv_nsec - 1000000);
	ck_assert_int_le((int64_t)m->timestamp, after.tv_sec * 1000000000 + after.tv_nsec + 1000000);
	clock_kind = TTALLOC_HAS_COUNTER ? TTALLOC_CLOCK_COUNTER : TTALLOC_CLOCK_MONOTONIC;
}
END_TEST

/* Several lanes are put together by their stamps. */
START_TEST(requeued_lanes_are_merged)
{
	pthread_t thread;
	uint64_t n;

	report_frees(1, 3);
	ck_assert_int_eq(pthread_create(&thread, NULL, report_one, (void *)4), 0);
	pthread_join(thread, NULL);
	report_frees(5, 6);
	ck_assert_int_eq(pthread_create(&thread, NULL, report_one, (void *)7), 0);
	pthread_join(thread, NULL);
	report_frees(8, 8);
	ck_assert_uint_eq(atomic_load(&conns[0].ring->lanes), 3);
	crashes = true;
	server_stop();
	server_start();
	ck_assert_int_eq(ask(), 0);
	ck_assert_uint_eq(conns[1].count, 8);
	for (n = 0; n < 8; n++)
		ck_assert_uint_eq(conns[1].messages[n].buffer_id, n + 1);
}
END_TEST

START_TEST(full_ring_notices_a_dead_server)
{
	report_frees(1, TTALLOC_LANE_RECORDS);
	book(&conns[0], 1, TTALLOC_LANE_RECORDS - 10);
	atomic_store(&lane(&conns[0], 1)->freed_count, 0);
	crashes = true;
	server_stop();
	while (counters().rings == 1)
		report_frees(1, 1);
	ck_assert_uint_eq(counters().queued, 10);
	ck_assert_uint_eq(counters().sent, TTALLOC_LANE_RECORDS - 10);
}
END_TEST

static pthread_barrier_t in_event;

static void wait_in_event(void)
{
	atomic_store(&on_readlink, NULL);
	pthread_barrier_wait(&in_event);
	pthread_barrier_wait(&in_event);
}

static void *alloc_slowly(void *arg)
{
	frames_alloc(t, 77, 1);
	return arg;
}

/* A thread that is in the middle of an event when the ring ends publishes into the old memory, and moves it itself. */
START_TEST(late_record_is_moved_by_its_thread)
{
	pthread_t thread;

	report_frees(1, 1);
	site_depth = 1;
	ck_assert_int_eq(pthread_barrier_init(&in_event, NULL, 2), 0);
	atomic_store(&on_readlink, wait_in_event);
	ck_assert_int_eq(pthread_create(&thread, NULL, alloc_slowly, NULL), 0);
	pthread_barrier_wait(&in_event);
	crashes = true;
	server_stop();
	server_start();
	ck_assert_int_eq(ask(), 0);
	AWAIT(conn_count == 2 && conns[1].count == 1);
	pthread_barrier_wait(&in_event);
	pthread_join(thread, NULL);
	AWAIT(conns[1].count == 2);
	ck_assert_uint_eq(conns[1].messages[1].buffer_id, 77);
	ck_assert_uint_eq(conns[1].messages[1].type, TTALLOC_MSG_ALLOC);
	ck_assert_uint_eq(counters().sent, 2);
	pthread_barrier_destroy(&in_event);
}
END_TEST

/* A server that was killed after it had given a segment back, and before it said what is booked. */
START_TEST(what_was_written_again_is_uncertain)
{
	uint64_t n;

	report_frees(1, 2 * SEGMENT);
	lane(&conns[0], 1)->freed[0] = lane(&conns[0], 1)->order[0];
	atomic_store(&lane(&conns[0], 1)->freed_count, 1);
	report_frees(2 * SEGMENT + 1, 2 * SEGMENT + 10);
	ck_assert_uint_eq(lane(&conns[0], 1)->order[2], lane(&conns[0], 1)->order[0]);
	crashes = true;
	server_stop();
	server_start();
	ck_assert_int_eq(ask(), -EIO);
	ck_assert_uint_eq(conns[1].count, 2 * SEGMENT);
	for (n = 0; n < 2 * SEGMENT; n++)
		ck_assert_uint_eq(conns[1].messages[n].buffer_id, 11 + n);
	ck_assert_uint_eq(counters().uncertain, 10);
	ck_assert_uint_eq(counters().sent, 2 * SEGMENT + 10);
}
END_TEST

/* A server that writes what is the client's must not keep it busy for ever. */
START_TEST(tail_that_is_not_ours)
{
	report_frees(1, 3);
	atomic_store(&lane(&conns[0], 1)->tail, UINT64_C(1) << 62);
	crashes = true;
	server_stop();
	server_start();
	ck_assert_int_eq(ask(), 0);
	report_frees(4, 4);
	ck_assert_uint_eq(conns[1].count, 0);
	expect_frees(&conns[1], 1, 0, 4, 4);
}
END_TEST

/* The time of the next look would not come for an hour. */
START_TEST(clock_that_was_put_back_is_looked_at)
{
	clock_kind = TTALLOC_CLOCK_MONOTONIC;
	report_frees(1, 3);
	crashes = true;
	server_stop();
	atomic_store(&put_back, 3600);
	report_frees(4, 4);
	atomic_store(&put_back, 0);
	ck_assert_uint_eq(counters().rings, 0);
	ck_assert_uint_eq(counters().queued, 4);
	clock_kind = TTALLOC_HAS_COUNTER ? TTALLOC_CLOCK_COUNTER : TTALLOC_CLOCK_MONOTONIC;
}
END_TEST

#define DEATHS 12
#define MORTAL_THREADS 4
#define MORTAL_EVENTS 12000

static _Atomic uint64_t mortal_done;

static void *report_through_deaths(void *arg)
{
	const uint64_t first = (uint64_t)(uintptr_t)arg * MORTAL_EVENTS;
	uint64_t n;

	for (n = 0; n < MORTAL_EVENTS; n++) {
		ttalloc_free(t, 0, first + n);
		if (n % 64 == 0)
			sched_yield();
		atomic_fetch_add(&mortal_done, 1);
	}
	return NULL;
}

/* As a server that lives on. */
static void hang_up(void)
{
	unsigned i;

	pthread_mutex_lock(&lock);
	for (i = 0; i < conn_count; i++)
		if (conns[i].fd >= 0)
			conn_end(&conns[i]);
	pthread_mutex_unlock(&lock);
}

/*
 * Servers come and go while threads report: each event is booked by one of them, once. A server may die with messages
 * that it has not read: what a thread published late, or sent while the ring was not there yet. They are uncertain.
 */
START_TEST(no_event_is_lost_or_doubled_by_deaths)
{
	static uint32_t times[MORTAL_THREADS * MORTAL_EVENTS];
	pthread_t threads[MORTAL_THREADS];
	uint64_t lost = 0;
	unsigned deaths, i;
	uintptr_t k;

	memset(times, 0, sizeof(times));
	atomic_store(&mortal_done, 0);
	report_frees(0, 0);
	for (k = 0; k < MORTAL_THREADS; k++)
		ck_assert_int_eq(pthread_create(&threads[k], NULL, report_through_deaths, (void *)k), 0);
	for (deaths = 0; deaths < DEATHS; deaths++) {
		while (atomic_load(&mortal_done) < (deaths + 1) * (MORTAL_THREADS * MORTAL_EVENTS / (DEATHS + 2)))
			sched_yield();
		crashes = deaths % 2;
		if (crashes)
			server_stop();
		else
			hang_up();
		if (crashes)
			server_start();
		ask();
	}
	for (k = 0; k < MORTAL_THREADS; k++)
		pthread_join(threads[k], NULL);
	while (counters().queued > 0)
		ttalloc_sync(t);
	ck_assert_int_eq(ask(), 0);
	ck_assert_uint_eq(counters().dropped, 0);
	ck_assert_uint_eq(counters().sent, 1 + MORTAL_THREADS * MORTAL_EVENTS);
	AWAIT(conns[conn_count - 1].fd >= 0);
	for (i = 0; i < conn_count; i++)
		tally(&conns[i], times, MORTAL_THREADS * MORTAL_EVENTS, i + 1 < conn_count);
	times[0]--;  /* the one that was reported twice */
	for (k = 0; k < MORTAL_THREADS * MORTAL_EVENTS; k++) {
		NEED(times[k] <= 1);
		lost += times[k] == 0;
	}
	ck_assert_uint_le(lost, counters().uncertain);
}
END_TEST

static void publish_late(const struct conn *c, uint64_t address)
{
	const uint64_t pos = tail(c, 1);
	struct ttalloc_record r = *record(c, 1, pos - 1);

	r.seq = (uint32_t)pos;
	r.event.address = address;
	lane(c, 1)->segment[lane(c, 1)->order[0]][pos] = r;
	atomic_store(&lane(c, 1)->tail, pos + 1);
}

/* A thread was stopped within an event until there was another server with a ring: the next event must not overtake. */
START_TEST(late_event_comes_before_the_next)
{
	pthread_t thread;

	report_frees(1, 3);
	crashes = true;
	server_stop();
	server_start();
	ck_assert_int_eq(ask(), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, report_one, (void *)100), 0);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(counters().rings, 1);
	publish_late(&conns[0], 4);
	report_frees(5, 5);
	pthread_mutex_lock(&lock);
	ck_assert_uint_eq(conns[1].count, 4);
	ck_assert_uint_eq(conns[1].messages[3].buffer_id, 4);
	pthread_mutex_unlock(&lock);
	expect_frees(&conns[1], 1, 1, 5, 5);
	ck_assert_uint_eq(counters().queued, 0);
	ck_assert_uint_eq(counters().sent, 6);
	/* It was confirmed. */
	crashes = false;
	hang_up();
	ck_assert_int_eq(ask(), 0);
	ck_assert_uint_eq(counters().uncertain, 0);
}
END_TEST

/* A thread that reports keeps only the memory of the server that is there. */
START_TEST(old_memory_is_given_back)
{
	unsigned i, others = 0;

	for (i = 0; i < 10; i++) {
		report_frees(1, 10);
		ck_assert_uint_eq(counters().rings, 1);
		/* The server's mappings and descriptors are in this process too. */
		ck_assert_uint_eq(rings_mapped(), conn_count + 1);
		if (i == 0)
			others = descriptors() - 2 * conn_count;
		ck_assert_uint_eq(descriptors(), others + 2 * conn_count);
		crashes = true;
		server_stop();
		server_start();
		ck_assert_int_eq(ask(), 0);
	}
}
END_TEST

/* --- descriptors --- */

/* Closes everything, opens files in its place, and goes on. */
static void close_everything_and_report(const char *file)
{
	uint64_t n = 1;
	int i;

	report_frees(1, 1);
	close_range(3, ~0U, 0);
	for (i = 3; i < 40; i++)
		if (open(file, O_RDWR | O_CREAT, 0600) != i)
			_exit(3);
	/* No faster than a small part of the queue until the next attempt to connect. */
	while (counters().connections < 2 && n < 1000000 && poll(NULL, 0, counters().queued > 0) == 0)
		report_frees(n + 1, n + 1), n++;
	if (ask() != 0)
		_exit(4);
	if (counters().dropped > 0 || counters().uncertain > 0 || counters().sent != n)
		_exit(5);
	ttalloc_close(t);
	_exit(0);
}

START_TEST(files_in_our_place_are_not_touched)
{
	char file[128];
	struct stat st;
	pid_t pid;

	snprintf(file, sizeof(file), "%s/file", dir);
	pid = fork();
	if (pid == 0)
		close_everything_and_report(file);
	wait_for(pid);
	ck_assert_int_eq(stat(file, &st), 0);
	ck_assert_int_eq(st.st_size, 0);
	unlink(file);
}
END_TEST

/* Also not by a wake-up, when the server has not said anything yet. */
START_TEST(wake_up_does_not_write_into_files)
{
	char file[128];
	struct stat st;
	int go[2], i;
	pid_t pid;
	char c;

	snprintf(file, sizeof(file), "%s/file", dir);
	ck_assert_int_eq(pipe2(go, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		report_frees(1, 1);
		dup2(go[0], 0);
		close_range(3, ~0U, 0);
		for (i = 3; i < 40; i++)
			if (open(file, O_RDWR | O_CREAT, 0600) != i)
				_exit(3);
		if (read(0, &c, 1) != 1)
			_exit(4);
		report_frees(2, 3);
		_exit(0);
	}
	AWAIT(conn_count == 1 && conns[0].fd < 0);
	atomic_store(&conns[0].ring->attention, TTALLOC_ATTENTION_WAKE);
	ck_assert_int_eq(write(go[1], "x", 1), 1);
	wait_for(pid);
	close(go[0]);
	close(go[1]);
	ck_assert_uint_eq(tail(&conns[0], 1), 3);
	ck_assert(!woken(&conns[0]));
	ck_assert_int_eq(stat(file, &st), 0);
	ck_assert_int_eq(st.st_size, 0);
	unlink(file);
}
END_TEST

START_TEST(descriptors_are_close_on_exec_and_not_standard)
{
	int status, fd;
	pid_t pid = fork();

	if (pid == 0) {
		close_range(3, ~0U, 0);
		close(0);
		close(1);
		close(2);
		report_frees(1, 1);
		if (counters().rings != 1)
			_exit(1);
		for (fd = 0; fd <= 2; fd++)
			if (open("/dev/null", O_RDWR) != fd)
				_exit(2);
		for (fd = 3; fd < 64; fd++)
			if (fcntl(fd, F_GETFD) == 0)
				_exit(3);
		_exit(fcntl(3, F_GETFD) != FD_CLOEXEC || fcntl(4, F_GETFD) != -1 || fcntl(5, F_GETFD) != FD_CLOEXEC);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

/* --- call sites --- */

/* The nth definition of that kind and number in lane 1; its bytes. */
static size_t definition(uint8_t kind, uint32_t number, uint8_t bytes[TTALLOC_DEFINITION_MAX])
{
	const struct ttalloc_record *r;
	uint64_t pos;
	size_t length, n;

	for (pos = 0; pos < tail(seen, 1); pos++) {
		r = record(seen, 1, pos);
		if (r->kind != kind || r->definition.number != number)
			continue;
		length = r->definition.length;
		NEED(length <= TTALLOC_DEFINITION_MAX);
		n = length < 40 ? length : 40;
		memcpy(bytes, r->definition.bytes, n);
		for (; n < length; n += 48) {
			r = record(seen, 1, ++pos);
			NEED(r->kind == TTALLOC_RECORD_MORE);
			memcpy(bytes + n, r->more, length - n < 48 ? length - n : 48);
		}
		return length;
	}
	return 0;
}

static unsigned definitions(uint8_t kind)
{
	unsigned n = 0;
	uint64_t pos;

	for (pos = 0; pos < tail(seen, 1); pos++)
		n += record(seen, 1, pos)->kind == kind;
	return n;
}

static uint32_t site_of_event(uint64_t n)
{
	return record(seen, 1, event_pos(n))->event.site;
}

struct site {
	struct ttalloc_site_head head;
	uint64_t frames[TTALLOC_FRAMES_MAX];
};

static struct site site(uint32_t number)
{
	_Alignas(8) uint8_t bytes[TTALLOC_DEFINITION_MAX];
	struct site s = { 0 };
	size_t length = definition(TTALLOC_RECORD_SITE, number, bytes);

	ck_assert_uint_ge(length, sizeof(s.head) + 8);
	ck_assert_uint_le(length, sizeof(s));
	memcpy(&s, bytes, length);
	ck_assert_uint_eq(length, sizeof(s.head) + s.head.frames * 8U);
	return s;
}

/* Where this program is loaded. */
extern const char __executable_start[];

static uint64_t offset_of(const void *p)
{
	return (uint64_t)((uintptr_t)p - (uintptr_t)__executable_start);
}

static void expect_in_program(uint64_t frame, const void *function)
{
	uint8_t bytes[TTALLOC_DEFINITION_MAX + 1];
	char exe[4096];
	size_t length, n;
	uint64_t offset = frame & ((UINT64_C(1) << TTALLOC_FRAME_MODULE_SHIFT) - 1);

	ck_assert_uint_gt(offset, offset_of(function));
	ck_assert_uint_lt(offset, offset_of(function) + 200);
	length = definition(TTALLOC_RECORD_MODULE, (uint32_t)(frame >> TTALLOC_FRAME_MODULE_SHIFT), bytes);
	ck_assert_uint_gt(length, 1);
	n = (size_t)readlink("/proc/self/exe", exe, sizeof(exe));
	ck_assert_uint_eq(length, 1U + bytes[0] + n);
	ck_assert_mem_eq(bytes + 1 + bytes[0], exe, n);
	/* By the linker's default in the distributions we know. */
	ck_assert_uint_eq(bytes[0], 20);
}

START_TEST(sites_are_found)
{
	uint32_t number[8];
	struct site s;
	volatile uint64_t i;

	/* One place each: a loop that is unrolled has several. */
	for (i = 0; i < 3; i++)
		frames_alloc(t, i, 2);
	for (i = 3; i < 5; i++)
		frames_alloc_elsewhere(t, i);
	frames_alloc(t, 5, 3);
	for (i = 0; i < 6; i++) {
		number[i] = site_of_event(i);
		ck_assert_uint_ne(number[i], 0);
	}
	/* The same place, other places, and another way to the same place. */
	ck_assert_uint_eq(number[1], number[0]);
	ck_assert_uint_eq(number[2], number[0]);
	ck_assert_uint_ne(number[3], number[0]);
	ck_assert_uint_eq(number[4], number[3]);
	ck_assert_uint_ne(number[5], number[0]);
	ck_assert_uint_ne(number[5], number[3]);
	s = site(number[0]);
	ck_assert_uint_eq(s.head.method, TTALLOC_STACK_FRAME_POINTER);
	ck_assert_uint_ge(s.head.frames, 4);
	ck_assert_uint_eq(s.head.truncated, 0);
	for (i = 0; i < 3; i++)
		expect_in_program(s.frames[i], frames_alloc);
	ck_assert_uint_ne(s.frames[0], s.frames[1]);
	ck_assert_uint_eq(s.frames[1], s.frames[2]);
	s = site(number[3]);
	expect_in_program(s.frames[0], frames_alloc_elsewhere);
}
END_TEST

static void alloc_here(void *address)
{
	frames_alloc(t, *(const uint64_t *)address, 1);
}

static void copy_file(const char *from, const char *to)
{
	int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	char bytes[4096];
	ssize_t n;

	NEED(in >= 0 && out >= 0);
	while ((n = read(in, bytes, sizeof(bytes))) > 0)
		NEED(write(out, bytes, (size_t)n) == n);
	NEED(n == 0);
	close(in);
	close(out);
}

/* By a name that is true in one directory only, and to be found when the program has left it: the whole path is told,
 * also of a file that was replaced meanwhile. */
START_TEST(a_relative_library_has_a_path)
{
	uint8_t bytes[TTALLOC_DEFINITION_MAX + 1];
	__typeof__(module_through) *through;
	char copy[sizeof(dir) + 16];
	void *library;
	uint64_t address = 1;
	size_t length;
	struct site s;
	unsigned i, found = 0;

	snprintf(copy, sizeof(copy), "%s/through.so", dir);
	copy_file(getenv("TTALLOC_TEST_MODULE"), copy);
	ck_assert_int_eq(chdir(dir), 0);
	library = dlopen("./through.so", RTLD_NOW);
	ck_assert_msg(library, "%s", dlerror());
	ck_assert_int_eq(chdir("/"), 0);
	if (_i)
		ck_assert_int_eq(unlink(copy), 0);
	through = (__typeof__(module_through) *)dlsym(library, "module_through");
	ck_assert_ptr_nonnull(through);
	through(alloc_here, &address);
	s = site(site_of_event(0));
	for (i = 0; i < s.head.frames; i++) {
		length = definition(TTALLOC_RECORD_MODULE, (uint32_t)(s.frames[i] >> TTALLOC_FRAME_MODULE_SHIFT), bytes);
		bytes[length] = '\0';
		found += strcmp((const char *)bytes + 1 + bytes[0], copy) == 0;
	}
	ck_assert_uint_eq(found, 1);
	unlink(copy);
	dlclose(library);
}
END_TEST

START_TEST(deep_stacks_are_cut)
{
	struct site s;
	unsigned i;

	frames_alloc(t, 1, 100);
	s = site(site_of_event(0));
	ck_assert_uint_eq(s.head.frames, 20);
	ck_assert_uint_eq(s.head.truncated, 1);
	for (i = 0; i < 20; i++)
		expect_in_program(s.frames[i], frames_alloc);
}
END_TEST

/* The environment is read once per process. */
static void with_depth(const char *depth, unsigned frames, uint8_t method)
{
	const struct ttalloc_record *r;
	unsigned n;
	pid_t pid;

	pthread_mutex_lock(&lock);
	n = conn_count;
	pthread_mutex_unlock(&lock);
	pid = fork();
	if (pid == 0) {
		setenv("TTALLOC_STACK_DEPTH", depth, 1);
		execl("/proc/self/exe", "test-client-ring", "--report", path, (char *)NULL);
		_exit(1);
	}
	wait_for(pid);
	AWAIT(conn_count == n + 1 && conns[n].fd < 0);
	seen = &conns[n];
	r = record(seen, 1, event_pos(0));
	ck_assert_int_eq(r->event.site != 0, frames > 0);
	if (frames > 0) {
		ck_assert_uint_eq(site(r->event.site).head.frames, frames);
		ck_assert_uint_eq(site(r->event.site).head.method, method);
	}
}

START_TEST(depth_is_chosen)
{
	with_depth("64", 64, TTALLOC_STACK_FRAME_POINTER);
	with_depth("2", 2, TTALLOC_STACK_FRAME_POINTER);
	with_depth("1", 1, TTALLOC_STACK_RETURN_ADDRESS);
	with_depth("0", 0, 0);
	with_depth("65", 20, TTALLOC_STACK_FRAME_POINTER);
	with_depth("-1", 20, TTALLOC_STACK_FRAME_POINTER);
	with_depth("", 20, TTALLOC_STACK_FRAME_POINTER);
	with_depth("5x", 20, TTALLOC_STACK_FRAME_POINTER);
}
END_TEST

/* Of the counter that the machine has, however slow it is. */
START_TEST(looks_are_a_second_apart)
{
	uint64_t counter = UINT64_C(1) << 31;

#if defined(__aarch64__)
	__asm__("mrs %0, cntfrq_el0" : "=r"(counter));
#endif
	ck_assert_uint_eq(ring_look_period(TTALLOC_CLOCK_COUNTER), counter);
	ck_assert_uint_eq(ring_look_period(TTALLOC_CLOCK_MONOTONIC), UINT64_C(1) << 30);
}
END_TEST

#if defined(__aarch64__)
/* PACIA1716: as a function signs its return address, with different stack pointers. A no-op on older processors. */
START_TEST(signed_addresses_are_read)
{
	const uintptr_t address = (uintptr_t)frames_alloc + 4;
	uintptr_t sp;

	for (sp = 0; sp < 4096; sp += 16) {
		register uintptr_t x17 __asm__("x17") = address;
		register uintptr_t x16 __asm__("x16") = sp;

		__asm__("hint #8" : "+r"(x17) : "r"(x16));
		ck_assert_uint_eq(site_address(x17), address);
	}
}
END_TEST
#endif

#if defined(__x86_64__)
/* Code without frame pointers: whatever the register holds, nothing is read that could not be. */
START_TEST(garbage_for_a_frame_pointer)
{
	_Alignas(16) uintptr_t loop[4], fake[8], up[6], edge[2];
	const uintptr_t here = (uintptr_t)__builtin_frame_address(0);
	const uintptr_t garbage[] = {
		0, 1, 8, UINTPTR_MAX, UINTPTR_MAX - 15, (uintptr_t)&conns, (uintptr_t)conns[0].ring, here + 1,
		here - 65536, here + (UINT64_C(1) << 40), (uintptr_t)loop, (uintptr_t)fake, (uintptr_t)up,
		(uintptr_t)edge,
	};
	struct site s;
	size_t i;

	loop[0] = (uintptr_t)loop;
	loop[1] = (uintptr_t)frames_alloc + 4;
	fake[0] = (uintptr_t)&fake[2];
	fake[1] = (uintptr_t)fake;
	up[0] = (uintptr_t)&up[2];
	up[1] = (uintptr_t)frames_alloc + 4;
	up[2] = 0;
	up[3] = (uintptr_t)&conns;
	/* To where AddressSanitizer has put a mine. */
	edge[0] = (uintptr_t)&edge[2];
	edge[1] = (uintptr_t)frames_alloc + 4;
	for (i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++)
		noframes_alloc(t, i, garbage[i]);
	for (i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		s = site(site_of_event(i));
		ck_assert_uint_ge(s.head.frames, 1);
		/* What leads out of the code ends there. */
		if (garbage[i] == (uintptr_t)fake)
			ck_assert_uint_eq(s.head.frames, 1);
		if (garbage[i] == (uintptr_t)up)
			ck_assert_uint_eq(s.head.frames, 2);
	}
	ck_assert_uint_eq(counters().sent, i);
}
END_TEST

/* Chains that lead to something else each time do not fill the tables, and are given up. */
START_TEST(changing_garbage_is_given_up)
{
	_Alignas(16) uintptr_t fake[4] = { 0 };
	uint32_t number;
	size_t i;

	for (i = 0; i < 1000; i++) {
		fake[1] = i + 1;
		noframes_alloc(t, i, (uintptr_t)fake);
	}
	number = site_of_event(0);
	for (i = 1; i < 1000; i++)
		ck_assert_uint_eq(site_of_event(i), number);
	ck_assert_uint_eq(definitions(TTALLOC_RECORD_SITE), 1);
	/* From now on return addresses only. */
	frames_alloc(t, 1, 5);
	ck_assert_uint_eq(site(site_of_event(1000)).head.frames, 1);
	ck_assert_uint_eq(site(site_of_event(1000)).head.method, TTALLOC_STACK_RETURN_ADDRESS);
}
END_TEST

/* What frees lead to does not take the stacks of allocations. */
START_TEST(garbage_of_frees_is_theirs)
{
	_Alignas(16) uintptr_t fake[4] = { 0 };
	size_t i;

	for (i = 0; i < 1000; i++) {
		fake[1] = i + 1;
		noframes_free(t, i, (uintptr_t)fake);
	}
	ck_assert_uint_eq(definitions(TTALLOC_RECORD_SITE), 1);
	frames_alloc(t, 1, 5);
	ck_assert_uint_ge(site(site_of_event(1000)).head.frames, 5);
	ck_assert_uint_eq(site(site_of_event(1000)).head.method, TTALLOC_STACK_FRAME_POINTER);
	fake[1] = (uintptr_t)frames_alloc + 4;
	noframes_free(t, 1, (uintptr_t)fake);
	ck_assert_uint_eq(site(site_of_event(1001)).head.method, TTALLOC_STACK_RETURN_ADDRESS);
}
END_TEST

/* Frees from everywhere leave half of the numbers to allocations, which may have all. */
START_TEST(frees_have_half_of_the_sites)
{
	_Alignas(16) uintptr_t stack[4] = { 0 };
	const uintptr_t code = (uintptr_t)setlocale;
	const size_t frees = SITE_FREES_MAX, allocs = TTALLOC_SITES_MAX - SITE_FREES_MAX;
	size_t i;

	for (i = 0; i < frees + 10; i++) {
		stack[1] = code + i;
		noframes_free(t, i, (uintptr_t)stack);
	}
	ck_assert_uint_eq(definitions(TTALLOC_RECORD_SITE), frees);
	ck_assert_uint_eq(site_of_event(frees - 1), frees);
	ck_assert_uint_eq(site_of_event(frees), 0);
	for (i = 0; i < allocs + 10; i++) {
		stack[1] = code + i;
		noframes_alloc(t, i, (uintptr_t)stack);
	}
	ck_assert_uint_eq(definitions(TTALLOC_RECORD_SITE), TTALLOC_SITES_MAX);
	ck_assert_uint_eq(site_of_event(frees + 10 + allocs - 1), TTALLOC_SITES_MAX);
	ck_assert_uint_eq(site_of_event(frees + 10 + allocs), 0);
	/* What has a number keeps it. */
	stack[1] = code + 1;
	noframes_free(t, 1, (uintptr_t)stack);
	ck_assert_uint_eq(site_of_event(frees + allocs + 20), 2);
}
END_TEST
#endif

static void alloc_from_handler(int sig)
{
	(void)sig;
	frames_alloc(t, 7, 5);
}

START_TEST(other_stacks_give_the_caller)
{
	struct sigaction sa = { .sa_handler = alloc_from_handler, .sa_flags = SA_ONSTACK };
	stack_t stack = { .ss_size = 65536 };
	struct site s;

	/* The event's own thread, before and after: nothing found out there is used here. */
	stack.ss_sp = malloc(stack.ss_size);
	ck_assert_int_eq(sigaltstack(&stack, NULL), 0);
	ck_assert_int_eq(sigaction(SIGUSR1, &sa, NULL), 0);
	raise(SIGUSR1);
	frames_alloc(t, 8, 5);
	raise(SIGUSR1);
	s = site(site_of_event(0));
	ck_assert_uint_eq(s.head.frames, 1);
	ck_assert_uint_eq(s.head.method, TTALLOC_STACK_RETURN_ADDRESS);
	expect_in_program(s.frames[0], frames_alloc);
	ck_assert_uint_eq(site_of_event(2), site_of_event(0));
	ck_assert_uint_gt(site(site_of_event(1)).head.frames, 6);
	stack.ss_flags = SS_DISABLE;
	sigaltstack(&stack, NULL);
	free(stack.ss_sp);
}
END_TEST

/* What was tried in vain often enough is not tried at every event. */
START_TEST(other_stacks_cost_no_system_calls)
{
	struct sigaction sa = { .sa_handler = alloc_from_handler, .sa_flags = SA_ONSTACK };
	void *high = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	stack_t stack = { .ss_sp = high, .ss_size = 65536 };
	unsigned before;
	int i;

	ck_assert_ptr_ne(high, MAP_FAILED);
	ck_assert_int_eq(sigaltstack(&stack, NULL), 0);
	ck_assert_int_eq(sigaction(SIGUSR1, &sa, NULL), 0);
	for (i = 0; i < 20; i++)
		raise(SIGUSR1);
	before = atomic_load(&system_calls);
	for (i = 0; i < 20; i++)
		raise(SIGUSR1);
	ck_assert_uint_eq(atomic_load(&system_calls), before);
	stack.ss_flags = SS_DISABLE;
	sigaltstack(&stack, NULL);
	munmap(high, 65536);
}
END_TEST

static void *alloc_in_thread(void *arg)
{
	frames_alloc(t, 1, 5);
	return arg;
}

START_TEST(threads_have_stacks_too)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, alloc_in_thread, NULL), 0);
	pthread_join(thread, NULL);
	ck_assert_uint_ge(site(site_of_event(0)).head.frames, 6);
}
END_TEST

/* A new server knows none of the numbers. */
START_TEST(definitions_are_made_anew)
{
	struct ttalloc_capacity capacity = { .dram = 1, .l1 = 2, .arch = TTALLOC_ARCH_BLACKHOLE };

	ttalloc_device(t, 3, &capacity);
	ttalloc_tag_push("layer");
	frames_alloc(t, 1, 2);
	crashes = false;
	server_stop();
	server_start();
	ck_assert_int_eq(ask(), 0);
	frames_alloc(t, 2, 2);
	AWAIT(conn_count == 2);
	seen = &conns[1];
	ck_assert_uint_eq(definitions(TTALLOC_RECORD_SITE), 1);
	ck_assert_uint_eq(definitions(TTALLOC_RECORD_TAG), 1);
	ck_assert_uint_eq(definitions(TTALLOC_RECORD_DEVICE), 1);
	ck_assert_uint_ne(site_of_event(0), 0);
	ck_assert_uint_eq(record(seen, 1, event_pos(0))->event.tag, 1);
	ttalloc_tag_pop();
}
END_TEST

/* --- tags --- */

static void expect_tag(uint64_t n, const char *text)
{
	const uint32_t number = record(seen, 1, event_pos(n))->event.tag;
	uint8_t bytes[TTALLOC_DEFINITION_MAX];

	if (!text[0]) {
		ck_assert_uint_eq(number, 0);
		return;
	}
	ck_assert_uint_eq(definition(TTALLOC_RECORD_TAG, number, bytes), strlen(text));
	ck_assert_mem_eq(bytes, text, strlen(text));
}

START_TEST(tags_nest)
{
	static const char *const wanted[] = { "", "model", "model/layer", "model/layer", "model/layer", "model/layer",
		"model", "model/layer", "", "" };
	size_t i;

	report_frees(1, 1);
	ttalloc_tag_push("model");
	report_frees(1, 1);
	ttalloc_tag_push("layer");
	report_frees(1, 1);
	ttalloc_tag_push(NULL);
	report_frees(1, 1);
	ttalloc_tag_push("");
	report_frees(1, 1);
	ttalloc_tag_pop();
	ttalloc_tag_pop();
	report_frees(1, 1);
	ttalloc_tag_pop();
	report_frees(1, 1);
	ttalloc_tag_push("layer");
	report_frees(1, 1);
	ttalloc_tag_pop();
	ttalloc_tag_pop();
	report_frees(1, 1);
	ttalloc_tag_pop();
	report_frees(1, 1);
	for (i = 0; i < 10; i++)
		expect_tag(i, wanted[i]);
	ck_assert_uint_eq(definitions(TTALLOC_RECORD_TAG), 2);
}
END_TEST

START_TEST(tags_have_limits)
{
	char name[400], wanted[TTALLOC_NAME_MAX + 1];
	unsigned i;

	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	ttalloc_tag_push("b");
	ttalloc_tag_push(name);
	report_frees(1, 1);
	memset(wanted, 'a', sizeof(wanted));
	memcpy(wanted, "b/", 2);
	wanted[TTALLOC_NAME_MAX] = 0;
	expect_tag(0, wanted);
	ttalloc_tag_pop();
	for (i = 1; i < 70; i++)
		ttalloc_tag_push("c");
	for (i = 1; i < 70; i++)
		ttalloc_tag_pop();
	report_frees(1, 1);
	expect_tag(1, "b");
	/* The 65th and deeper do not show. */
	for (i = 1; i < 70; i++)
		ttalloc_tag_push("c");
	report_frees(1, 1);
	memcpy(wanted, "b", 2);
	for (i = 1; i < 64; i++)
		strcat(wanted, "/c");
	expect_tag(2, wanted);
	for (i = 0; i < 70; i++)
		ttalloc_tag_pop();
}
END_TEST

static void *report_with_own_tag(void *arg)
{
	report_frees(1, 1);
	ttalloc_tag_push("thread");
	report_frees(1, 1);
	return arg;
}

START_TEST(tags_are_the_threads_own)
{
	pthread_t thread;

	ttalloc_tag_push("main");
	report_frees(1, 1);
	ck_assert_int_eq(pthread_create(&thread, NULL, report_with_own_tag, NULL), 0);
	pthread_join(thread, NULL);
	expect_tag(0, "main");
	ck_assert_uint_eq(record(&conns[0], 2, 0)->event.tag, 0);
	ck_assert_uint_eq(record(&conns[0], 2, 1)->kind, TTALLOC_RECORD_TAG);
	ck_assert_uint_eq(record(&conns[0], 2, 2)->event.tag, 2);
	ttalloc_tag_pop();
}
END_TEST

static void *tag_only(void *arg)
{
	ttalloc_tag_push("a");
	ttalloc_tag_pop();
	return arg;
}

static void tag_in_a_thread(void)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, tag_only, NULL), 0);
	pthread_join(thread, NULL);
}

/* Nothing tells the library of their end. */
START_TEST(threads_that_only_tag_leave_nothing)
{
	size_t before;
	int i;

	tag_in_a_thread();
	before = mallinfo2().uordblks;
	for (i = 0; i < 10; i++)
		tag_in_a_thread();
	ck_assert_uint_eq(mallinfo2().uordblks, before);
}
END_TEST

/* --- devices --- */

START_TEST(devices_are_declared)
{
	const struct ttalloc_capacity capacity = {
		.dram = UINT64_C(12) << 30,
		.l1 = 1 << 20,
		.arch = TTALLOC_ARCH_WORMHOLE_B0,
	};
	const struct ttalloc_record *r;
	struct ttalloc_device_data data;

	ttalloc_device(NULL, 1, &capacity);
	ttalloc_device(t, 5, &capacity);
	ck_assert_uint_eq(tail(&conns[0], 1), 1);
	r = record(&conns[0], 1, 0);
	ck_assert_uint_eq(r->kind, TTALLOC_RECORD_DEVICE);
	ck_assert_uint_eq(r->definition.number, 5);
	ck_assert_uint_eq(r->definition.length, sizeof(data));
	memcpy(&data, r->definition.bytes, sizeof(data));
	ck_assert_uint_eq(data.dram, capacity.dram);
	ck_assert_uint_eq(data.l1, capacity.l1);
	ck_assert_uint_eq(data.arch, capacity.arch);
	ck_assert_uint_eq(counters().sent, 0);
	/* A sleeping server hears of it. */
	atomic_store(&conns[0].ring->attention, TTALLOC_ATTENTION_WAKE);
	ttalloc_device(t, 6, &capacity);
	ck_assert(woken(&conns[0]));
	ck_assert_uint_eq(tail(&conns[0], 1), 2);
}
END_TEST

/* --- instances --- */

/* --- marks --- */

START_TEST(marks_are_in_their_place)
{
	static const char name[] = "a-name.of_sixty-three-characters--that-takes-two-records-of-64-";
	const struct ttalloc_record *r;

	ck_assert_uint_eq(sizeof(name) - 1, 63);
	report_frees(1, 1);
	ck_assert_int_eq(ttalloc_mark(t, name), 0);
	report_frees(2, 2);
	ck_assert_int_eq(ttalloc_mark(t, "m"), 0);
	ck_assert_uint_eq(tail(&conns[0], 1), 5);
	ck_assert_uint_eq(record(&conns[0], 1, 0)->kind, TTALLOC_RECORD_FREE);
	r = record(&conns[0], 1, 1);
	ck_assert_uint_eq(r->kind, TTALLOC_RECORD_MARK);
	ck_assert_uint_eq(r->definition.length, 63);
	ck_assert_mem_eq(r->definition.bytes, name, 40);
	ck_assert_uint_eq(record(&conns[0], 1, 2)->kind, TTALLOC_RECORD_MORE);
	ck_assert_mem_eq(record(&conns[0], 1, 2)->more, name + 40, 23);
	ck_assert_uint_eq(record(&conns[0], 1, 3)->kind, TTALLOC_RECORD_FREE);
	ck_assert_uint_eq(record(&conns[0], 1, 4)->definition.length, 1);
	/* They are no events. */
	ck_assert_uint_eq(counters().sent, 2);
	/* A sleeping server hears of it. */
	atomic_store(&conns[0].ring->attention, TTALLOC_ATTENTION_WAKE);
	ck_assert_int_eq(ttalloc_mark(t, "m"), 0);
	ck_assert(woken(&conns[0]));
	ck_assert_int_eq(ttalloc_mark(NULL, "m"), 0);
	ck_assert_int_eq(ttalloc_mark(t, NULL), -EINVAL);
	ck_assert_int_eq(ttalloc_mark(t, ""), -EINVAL);
	ck_assert_int_eq(ttalloc_mark(t, ".m"), -EINVAL);
	ck_assert_int_eq(ttalloc_mark(t, "m/n"), -EINVAL);
	ck_assert_int_eq(ttalloc_mark(t, "a-name.of_sixty-four-characters---that-takes-two-records-of-64-x"), -EINVAL);
	ck_assert_uint_eq(tail(&conns[0], 1), 6);
}
END_TEST

START_TEST(instances_have_their_own_rings)
{
	struct ttalloc *more[4];
	unsigned i, round;

	report_frees(1, 1);
	for (i = 0; i < 4; i++)
		ck_assert_int_eq(ttalloc_open(&more[i], path), 0);
	for (round = 0; round < 50; round++) {
		for (i = 0; i < 4; i++)
			ttalloc_free(more[i], 0, round);
		report_frees(2 + round, 2 + round);
	}
	ck_assert_uint_eq(conn_count, 5);
	for (i = 0; i < 4; i++)
		expect_frees(&conns[1 + i], 1, 0, 0, 49);
	expect_frees(&conns[0], 1, 0, 1, 51);
	/* One that is made where a closed one was is another one. */
	for (i = 0; i < 4; i++) {
		ttalloc_close(more[i]);
		ck_assert_int_eq(ttalloc_open(&more[i], path), 0);
		ttalloc_free(more[i], 0, 1000);
		expect_frees(&conns[5 + i], 1, 0, 1000, 1000);
	}
	for (i = 0; i < 4; i++)
		ttalloc_close(more[i]);
	ck_assert_uint_eq(tail(&conns[1], 1), 50);
}
END_TEST

/* --- */

static void add(TCase *tc, const TTest *const tests[], size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		tcase_add_test(tc, tests[i]);
}

#define ADD(tc, ...) \
	add(tc, (const TTest *const[]){ __VA_ARGS__ }, sizeof((const TTest *const[]){ __VA_ARGS__ }) / sizeof(TTest *))

static TCase *tcase_with(Suite *s, const char *name, SFun fixture)
{
	TCase *tc = tcase_create(name);

	tcase_add_checked_fixture(tc, fixture, teardown);
	tcase_set_timeout(tc, 60);
	suite_add_tcase(s, tc);
	return tc;
}

static TCase *tcase(Suite *s, const char *name)
{
	return tcase_with(s, name, setup);
}

/* What depth_is_chosen() starts. */
static int report_once(const char *socket)
{
	if (ttalloc_open(&t, socket) < 0)
		return EXIT_FAILURE;
	frames_alloc(t, 1, 80);
	if (ttalloc_sync(t) != 0)
		return EXIT_FAILURE;
	ttalloc_close(t);
	return EXIT_SUCCESS;
}

/* For client-strace.sh: serves until its input ends. */
static int serve_others(const char *socket)
{
	char c;

	snprintf(path, sizeof(path), "%s", socket);
	server_start();
	if (write(STDOUT_FILENO, "ready\n", 6) == 6)
		while (read(STDIN_FILENO, &c, 1) > 0)
			;
	server_stop();
	conns_free();
	return EXIT_SUCCESS;
}

/* For client-strace.sh: a million events of one thread between two marks. */
static int report_a_million(const char *socket)
{
	uint64_t n;

	if (ttalloc_open(&t, socket) < 0)
		return EXIT_FAILURE;
	ttalloc_tag_push("strace");
	/* What is met for the first time may cost something. */
	for (n = 0; n < 1000000; n += 2) {
		frames_alloc(t, n, 20);
		ttalloc_free(t, 0, n + 1);
		if (n == 2 && write(STDOUT_FILENO, "begin\n", 6) != 6)
			return EXIT_FAILURE;
	}
	if (write(STDOUT_FILENO, "end\n", 4) != 4 || counters().rings != 1 || counters().sent != 1000000)
		return EXIT_FAILURE;
	ttalloc_close(t);
	return EXIT_SUCCESS;
}

/* What this program is besides a test. */
static const struct role {
	const char *name;
	int (*run)(const char *socket);
} roles[] = {
	{ "--report", report_once },
	{ "--serve", serve_others },
	{ "--million", report_a_million },
};

static int play(const char *name, const char *socket)
{
	size_t i;

	for (i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
		if (strcmp(name, roles[i].name) == 0)
			return roles[i].run(socket);
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	Suite *s;
	SRunner *runner;
	TCase *tc;
	int failed;

	if (argc == 3)
		return play(argv[1], argv[2]);
	/* Before the library's own, so that it is called while that holds the lock. */
	s = suite_create("client-ring");
	ADD(tcase(s, "request"), request_is_exact);
	tc = tcase_with(s, "records", setup_sites);
	tcase_add_loop_test(tc, every_event_has_its_record, 0, 2);
	ADD(tcase(s, "segments"), segment_freed_last_is_taken_first, full_ring_drops_and_counts, definitions_are_whole);
	ADD(tcase(s, "wake-ups"), sleeping_server_is_woken, looks_are_a_second_apart);
	tc = tcase(s, "no ring");
	tcase_add_loop_test(tc, without_a_ring_messages, 0, 6);
	tcase_add_loop_test(tc, little_address_space, 0, 4);
	ADD(tc, late_ring_is_taken_in_order, late_ring_is_met_by_a_question, answers_of_others_are_kept,
	    server_that_hangs_up_instead);
	ADD(tcase(s, "threads"), lane_goes_to_the_next_thread, more_threads_than_lanes, stamps_keep_happens_before,
	    destructors_may_report, no_cancellation_point_and_errno_is_kept);
	tc = tcase(s, "signals");
	tcase_add_loop_test(tc, handlers_report_into_events, 0, 2);
	ADD(tc, handler_may_fork);
	ADD(tcase(s, "fork"), child_has_its_own_ring, handler_may_report_in_fork);
	tcase_add_loop_test(tcase(s, "handlers of fork"), handler_of_fork_may_do_all, 0, 4);
	tc = tcase(s, "dead server");
	tcase_add_loop_test(tc, what_was_not_booked_is_delivered_to_the_next, 0, 2);
	tcase_add_loop_test(tc, requeued_events_keep_their_time, 0, 2);
	ADD(tc, requeued_lanes_are_merged, full_ring_notices_a_dead_server,
	    late_record_is_moved_by_its_thread, late_event_comes_before_the_next,
	    clock_that_was_put_back_is_looked_at, what_was_written_again_is_uncertain, tail_that_is_not_ours,
	    no_event_is_lost_or_doubled_by_deaths,
	    old_memory_is_given_back);
	ADD(tcase(s, "descriptors"), files_in_our_place_are_not_touched, wake_up_does_not_write_into_files,
	    descriptors_are_close_on_exec_and_not_standard);
	tc = tcase_with(s, "sites", setup_sites);
	ADD(tc, event_that_is_forked_goes_on, sites_are_found, deep_stacks_are_cut,
	    depth_is_chosen, other_stacks_give_the_caller, other_stacks_cost_no_system_calls, threads_have_stacks_too,
	    definitions_are_made_anew);
	tcase_add_loop_test(tc, a_relative_library_has_a_path, 0, 2);
#if defined(__x86_64__)
	ADD(tc, garbage_for_a_frame_pointer, changing_garbage_is_given_up, garbage_of_frees_is_theirs,
	    frees_have_half_of_the_sites);
#elif defined(__aarch64__)
	ADD(tc, signed_addresses_are_read);
#endif
	/* The same storms while call sites are defined in them. */
	tc = tcase_with(s, "sites in storms", setup_sites);
	tcase_add_loop_test(tc, handlers_report_into_events, 0, 2);
	tcase_add_loop_test(tc, handler_of_fork_may_do_all, 0, 4);
	ADD(tc, handler_may_fork, handler_may_report_in_fork, no_event_is_lost_or_doubled_by_deaths);
	ADD(tcase(s, "marks"), marks_are_in_their_place);
	ADD(tcase(s, "tags"), tags_nest, tags_have_limits, tags_are_the_threads_own, threads_that_only_tag_leave_nothing);
	ADD(tcase(s, "devices"), devices_are_declared);
	ADD(tcase(s, "instances"), instances_have_their_own_rings);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
