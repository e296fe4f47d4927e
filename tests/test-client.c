/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-client.c - libttalloc against a server that the test itself plays.
 *
 * A connect to a Unix socket and what is sent over it need nobody on the other side, so most tests are one thread:
 * report, then accept and look at the bytes. The library is linked statically with the system calls below replaced
 * (-Wl,--wrap=...), so that time stands still until a test moves it, a wait is counted instead of waited, and a send
 * takes as many bytes as a test wants. No test depends on how long anything takes.
 *
 * The server has no rings (test-client-ring.c has): a request for one never reaches the socket, and is refused at once.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/ttalloc-proto.h"
#include "client/ttalloc-ring.h"
#include "client/ttalloc.h"

#define MESSAGE TTALLOC_DIALECT_144
#define MS INT64_C(1000000)
#define EPOCH UINT64_C(1732082104123456789)  /* what CLOCK_REALTIME says when time is faked */

/* --- the system under the library --- */

/* ck_assert() writes to a file each time: too slow for what is checked a million times. */
#define NEED(condition)                                        \
	do {                                                   \
		if (!(condition))                              \
			ck_abort_msg("not so: %s", #condition); \
	} while (0)

static bool faked;              /* whether time is ours */
static int64_t now;             /* CLOCK_MONOTONIC, ns */
static unsigned polls;          /* waits of the library */
static void (*on_poll)(void);   /* what the world does while the library waits; it then looks again */
static bool never_ready;        /* and finds nothing */
static ssize_t (*on_send)(int fd, const void *data, size_t len, int flags);
static unsigned sends;          /* those that on_send saw */
static unsigned connects;
static char connect_paths[16][108];
static int connect_error;       /* errno for every connect; 0: really connect */
static bool mmap_fails;
static bool hears_of_rings;     /* requests for a ring reach the socket, where nobody answers */
static int refused;             /* descriptor on which a refusal is to be read; 0: none */

int __real_clock_gettime(clockid_t id, struct timespec *ts);
int __real_poll(struct pollfd *fds, nfds_t n, int ms);
ssize_t __real_send(int fd, const void *data, size_t len, int flags);
ssize_t __real_recvmsg(int fd, struct msghdr *h, int flags);
int __real_connect(int fd, const struct sockaddr *sa, socklen_t len);
void *__real_mmap(void *at, size_t len, int prot, int flags, int fd, off_t off);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_poll(struct pollfd *fds, nfds_t n, int ms);
ssize_t __wrap_send(int fd, const void *data, size_t len, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *h, int flags);
int __wrap_connect(int fd, const struct sockaddr *sa, socklen_t len);
void *__wrap_mmap(void *at, size_t len, int prot, int flags, int fd, off_t off);
/* What mmap is called where off_t was asked to be 64 bits wide, as meson does. */
void *__wrap_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t off);

int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
	const int64_t t = id == CLOCK_MONOTONIC ? now : (int64_t)EPOCH;

	if (!faked)
		return __real_clock_gettime(id, ts);
	*ts = (struct timespec){ .tv_sec = t / 1000000000, .tv_nsec = t % 1000000000 };
	return 0;
}

/* A wait that nothing answers takes all its time, at once. */
int __wrap_poll(struct pollfd *fds, nfds_t n, int ms)
{
	int r;

	if (!faked)
		return __real_poll(fds, n, ms);
	polls++;
	if (on_poll)
		on_poll();
	r = never_ready ? 0 : __real_poll(fds, n, 0);
	if (r == 0)
		now += ms * MS;
	return r;
}

ssize_t __wrap_send(int fd, const void *data, size_t len, int flags)
{
	if (!hears_of_rings && len == MESSAGE && *(const uint8_t *)data == TTALLOC_MSG_RING) {
		refused = fd;
		return (ssize_t)len;
	}
	return on_send ? on_send(fd, data, len, flags) : __real_send(fd, data, len, flags);
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *h, int flags)
{
	const struct ttalloc_msg_head refusal = { .type = TTALLOC_MSG_RING_RESPONSE, .device_id = -EOPNOTSUPP };

	if (fd != refused)
		return __real_recvmsg(fd, h, flags);
	refused = 0;
	NEED(h->msg_iov->iov_len == MESSAGE);
	memset(h->msg_iov->iov_base, 0, MESSAGE);
	memcpy(h->msg_iov->iov_base, &refusal, sizeof(refusal));
	h->msg_controllen = 0;
	return MESSAGE;
}

int __wrap_connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)sa;

	if (faked) {
		strcpy(connect_paths[connects % 16], un->sun_path);
		connects++;
	}
	if (connect_error) {
		errno = connect_error;
		return -1;
	}
	return __real_connect(fd, sa, len);
}

void *__wrap_mmap(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
	if (mmap_fails) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return __real_mmap(at, len, prot, flags, fd, off);
}

void *__wrap_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
	return __wrap_mmap(at, len, prot, flags, fd, off);
}

/* --- the server's side --- */

static char dir[] = "/tmp/test-client-XXXXXX";
static char path[64];
static int listener = -1;
static int peer = -1;           /* the accepted connection */
static struct ttalloc *t;

static void server_start(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	strcpy(sa.sun_path, path);
	unlink(path);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(listener, 0);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
	ck_assert_int_eq(listen(listener, 64), 0);
	/* With time faked, what is not there will not come: a test that waits for it has failed. */
	if (faked)
		ck_assert_int_eq(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
}

static void server_accept(void)
{
	peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_int_ge(peer, 0);
}

static void hang_up(void)
{
	if (peer >= 0)
		close(peer);
	peer = -1;
}

static void server_stop(void)
{
	hang_up();
	if (listener >= 0)
		close(listener);
	listener = -1;
	unlink(path);
}

/* One whole message; false if there is none: at the end of the stream or, with time faked, for now. */
static bool server_read(int fd, uint8_t message[MESSAGE])
{
	static uint8_t held[MESSAGE];
	static size_t got;
	ssize_t n;

	while (got < MESSAGE) {
		n = recv(fd, held + got, MESSAGE - got, faked ? MSG_DONTWAIT : 0);
		if (n < 0 && errno == EAGAIN)
			return false;
		NEED(n > 0 || got == 0);
		if (n <= 0)
			return false;
		got += (size_t)n;
	}
	memcpy(message, held, MESSAGE);
	got = 0;
	return true;
}

static struct ttalloc_msg_head head_of(const uint8_t message[MESSAGE])
{
	struct ttalloc_msg_head h;
	size_t i;

	memcpy(&h, message, sizeof(h));
	for (i = sizeof(h); i < MESSAGE; i++)
		NEED(message[i] == 0);
	return h;
}

static struct ttalloc_msg_head expect(uint8_t type)
{
	uint8_t message[MESSAGE];
	struct ttalloc_msg_head h;

	NEED(server_read(peer, message));
	h = head_of(message);
	NEED(h.type == type);
	return h;
}

/* The frees of addresses first..last, in this order, and nothing before them. */
static void expect_frees(uint64_t first, uint64_t last)
{
	for (; first <= last; first++)
		NEED(expect(TTALLOC_MSG_FREE).buffer_id == first);
}

static void expect_silence(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	ck_assert_int_eq(__real_poll(&p, 1, 0), 0);
}

static void expect_end(int fd)
{
	uint8_t byte;

	ck_assert_int_eq(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
}

static void answer(uint8_t type, uint64_t dram)
{
	uint8_t message[MESSAGE] = { type };

	memcpy(message + TTALLOC_REPLY_DRAM, &dram, sizeof(dram));
	ck_assert_int_eq(write(peer, message, sizeof(message)), sizeof(message));
}

static void report_frees(uint64_t first, uint64_t last)
{
	for (; first <= last; first++)
		ttalloc_free(t, 0, first);
}

static struct ttalloc_counters counters(void)
{
	struct ttalloc_counters c;

	ttalloc_get_counters(t, &c);
	return c;
}

static void setup(void)
{
	struct timespec ts;

	/* libcheck looks at this clock too: it must not go backwards. */
	__real_clock_gettime(CLOCK_MONOTONIC, &ts);
	now = ts.tv_sec * 1000 * MS + ts.tv_nsec;
	faked = true;
	never_ready = false;
	sends = 0;
	polls = connects = 0;
	on_poll = NULL;
	on_send = NULL;
	connect_error = 0;
	mmap_fails = false;
	hears_of_rings = false;
	refused = 0;
	strcpy(strrchr(dir, '-'), "-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sock", dir);
	unsetenv("TTALLOC_SOCKET");
	ck_assert_int_eq(ttalloc_open(&t, path), 0);
}

static void teardown(void)
{
	ttalloc_close(t);
	t = NULL;
	server_stop();
	rmdir(dir);
}

/* A server that has the connection, after one event that it has read. */
static void connected(void)
{
	server_start();
	report_frees(0, 0);
	server_accept();
	expect_frees(0, 0);
	polls = 0;
}

/* --- messages --- */

START_TEST(messages_are_exact)
{
	static const uint8_t head_alloc[40] = {
		1, 0, 0, 0, 3, 0, 0, 0,  0x00, 0x30, 0, 0, 0, 0, 0, 0,  4, 0, 0, 0, 0, 0, 0, 0,
		0x40, 0, 0, 0x40, 0, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0, 0,
	};
	uint8_t message[MESSAGE], wanted[MESSAGE] = { 0 };
	const int32_t pid = getpid();
	const uint64_t time = EPOCH;

	server_start();
	ttalloc_alloc(t, 3, TTALLOC_TRACE, 0x40000040, 0x3000);
	server_accept();
	ck_assert(server_read(peer, message));
	memcpy(wanted, head_alloc, sizeof(head_alloc));
	memcpy(wanted + 20, &pid, sizeof(pid));
	memcpy(wanted + 32, &time, sizeof(time));
	ck_assert_mem_eq(message, wanted, MESSAGE);
}
END_TEST

static void expect_event(uint8_t type, int32_t device, uint8_t buffer_type, uint64_t id, uint64_t size, uint64_t time)
{
	struct ttalloc_msg_head h = expect(type);

	ck_assert_int_eq(h.device_id, device);
	ck_assert_uint_eq(h.buffer_type, buffer_type);
	ck_assert_uint_eq(h.buffer_id, id);
	ck_assert_uint_eq(h.size, size);
	ck_assert_uint_eq(h.timestamp, time);
	ck_assert_int_eq(h.process_id, getpid());
}

START_TEST(every_event_has_its_message)
{
	server_start();
	ttalloc_alloc(t, 1023, TTALLOC_L1_SMALL, UINT64_MAX, UINT64_C(1) << 56);
	ttalloc_free(t, 1, 0x100);
	ttalloc_cb_alloc(t, 2, 0x20000, 2048);
	ttalloc_cb_free(t, 2, 0x20000, 2048);
	ttalloc_kernel_load(t, 4, TTALLOC_KERNEL_DISPATCH, 0x1001, 8192);
	ttalloc_kernel_unload(t, 4, 0x1001, 8192);
	ttalloc_alloc(t, -7, 255, 0, 0);
	server_accept();
	expect_event(TTALLOC_MSG_ALLOC, 1023, 3, UINT64_MAX, UINT64_C(1) << 56, EPOCH);
	expect_event(TTALLOC_MSG_FREE, 1, 0, 0x100, 0, 0);
	expect_event(TTALLOC_MSG_CB_ALLOC, 2, 0, 0x20000, 2048, EPOCH);
	expect_event(TTALLOC_MSG_CB_FREE, 2, 0, 0x20000, 2048, 0);
	expect_event(TTALLOC_MSG_KERNEL_LOAD, 4, 2, 0x1001, 8192, EPOCH);
	expect_event(TTALLOC_MSG_KERNEL_UNLOAD, 4, 0, 0x1001, 8192, 0);
	expect_event(TTALLOC_MSG_ALLOC, -7, 255, 0, 0, EPOCH);
	expect_silence(peer);
	ck_assert_uint_eq(counters().sent, 7);
	ck_assert_uint_eq(polls, 0);
}
END_TEST

/* --- instances --- */

START_TEST(null_instance_does_nothing)
{
	struct ttalloc_counters c = { .sent = 1 };
	struct ttalloc_capacity capacity;
	struct ttalloc_totals totals;
	uint64_t address = 0;
	uint32_t count;

	ttalloc_alloc(NULL, 0, TTALLOC_DRAM, 1, 1);
	ttalloc_free(NULL, 0, ++address);
	ck_assert_uint_eq(address, 1);
	ttalloc_cb_alloc(NULL, 0, 1, 1);
	ttalloc_cb_free(NULL, 0, 1, 1);
	ttalloc_kernel_load(NULL, 0, TTALLOC_KERNEL_APPLICATION, 1, 1);
	ttalloc_kernel_unload(NULL, 0, 1, 1);
	ttalloc_close(NULL);
	ck_assert_int_eq(ttalloc_sync(NULL), 0);
	ck_assert_int_eq(ttalloc_dump(NULL), -ENOTCONN);
	ck_assert_int_eq(ttalloc_query(NULL, 0, &totals), -ENOTCONN);
	ck_assert_int_eq(ttalloc_device_info(NULL, 0, &capacity), -ENOTCONN);
	ck_assert_int_eq(ttalloc_device_count(NULL, &count), -ENOTCONN);
	ttalloc_get_counters(NULL, &c);
	ck_assert_uint_eq(c.sent, 0);
	ck_assert_uint_eq(connects, 0);
}
END_TEST

/* The choice is made once per process, so each value gets a process. */
static int default_instance_with(const char *value)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (value)
			setenv("TT_ALLOC_TRACKING_ENABLED", value, 1);
		else
			unsetenv("TT_ALLOC_TRACKING_ENABLED");
		setenv("TTALLOC_SOCKET", path, 1);
		t = ttalloc_default();
		ttalloc_free(t, 0, 7);
		ttalloc_close(t);
		ttalloc_free(t, 0, 8);
		_exit(t && ttalloc_default() == t);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

START_TEST(only_1_turns_tracking_on)
{
	static const char *const off[] = { NULL, "", "0", "true", "yes", "on", "2", "01", "1 ", " 1", "11" };
	size_t i;

	server_start();
	for (i = 0; i < sizeof(off) / sizeof(off[0]); i++)
		ck_assert_int_eq(default_instance_with(off[i]), 0);
	expect_silence(listener);
	ck_assert_int_eq(default_instance_with("1"), 1);
	/* TTALLOC_SOCKET led it here, and closing it did not end it. */
	server_accept();
	expect_frees(7, 8);
	expect_end(peer);
}
END_TEST

START_TEST(default_paths)
{
	struct ttalloc *d;

	ck_assert_int_eq(ttalloc_open(&d, NULL), 0);
	connect_error = ENOENT;
	ttalloc_free(d, 0, 1);
	ck_assert_uint_eq(connects, 2);
	ck_assert_str_eq(connect_paths[0], TTALLOC_NATIVE_SOCKET);
	ck_assert_str_eq(connect_paths[1], TTALLOC_COMPAT_SOCKET);
	/* It is there, but nobody answers: a server of ours is being started anew, not an older kind. */
	connect_error = ECONNREFUSED;
	now += 10 * MS;
	ttalloc_free(d, 0, 2);
	ck_assert_uint_eq(connects, 3);
	ck_assert_str_eq(connect_paths[2], TTALLOC_NATIVE_SOCKET);
	ttalloc_close(d);
}
END_TEST

START_TEST(paths_given)
{
	char longest[108], too_long[109];
	struct ttalloc *d;

	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = 0;
	memset(too_long, 'x', sizeof(too_long));
	too_long[sizeof(too_long) - 1] = 0;
	connect_error = ENOENT;
	ck_assert_int_eq(ttalloc_open(&d, too_long), -ENAMETOOLONG);
	ck_assert_ptr_null(d);
	ck_assert_int_eq(ttalloc_open(&d, longest), 0);
	ttalloc_free(d, 0, 1);
	ck_assert_uint_eq(connects, 1);
	ck_assert_str_eq(connect_paths[0], longest);
	ttalloc_close(d);

	setenv("TTALLOC_SOCKET", "/somewhere", 1);
	connects = 0;
	ck_assert_int_eq(ttalloc_open(&d, NULL), 0);
	ttalloc_free(d, 0, 1);
	ck_assert_str_eq(connect_paths[0], "/somewhere");
	ttalloc_close(d);
}
END_TEST

START_TEST(close_delivers_what_is_queued)
{
	report_frees(1, 1000);
	server_start();
	now += 10 * MS;
	ttalloc_close(t);
	t = NULL;
	server_accept();
	expect_frees(1, 1000);
	expect_end(peer);
}
END_TEST

/* --- without a server --- */

START_TEST(errno_is_kept)
{
	struct ttalloc_totals totals;

	errno = 4711;
	ttalloc_free(t, 0, 1);
	ck_assert_int_eq(errno, 4711);
	ck_assert_int_eq(ttalloc_query(t, 0, &totals), -ENOENT);
	ck_assert_int_eq(errno, 4711);
	server_start();
	now += 1000 * MS;
	errno = 4711;
	ttalloc_free(t, 0, 1);
	ck_assert_int_eq(errno, 4711);
	server_accept();
	hang_up();
	errno = 4711;
	ttalloc_free(t, 0, 1);
	ck_assert_int_eq(errno, 4711);
	server_stop();
	ttalloc_close(t);
	t = NULL;
	ck_assert_int_eq(errno, 4711);
}
END_TEST

START_TEST(backlog_is_delivered_in_order)
{
	report_frees(1, 1000);
	ck_assert_uint_eq(counters().queued, 1000);
	server_start();
	report_frees(1001, 1001);
	expect_silence(listener);
	now += 10 * MS;
	report_frees(1002, 1002);
	server_accept();
	expect_frees(1, 1002);
	report_frees(1003, 1003);
	expect_frees(1003, 1003);
	expect_silence(peer);
	ck_assert_uint_eq(counters().sent, 1003);
	ck_assert_uint_eq(counters().queued, 0);
	ck_assert_uint_eq(polls, 0);
}
END_TEST

START_TEST(attempts_back_off)
{
	int64_t wait = 10 * MS;
	unsigned attempts = 1;

	report_frees(1, 100);
	ck_assert_uint_eq(connects, attempts);
	for (; attempts < 14; attempts++) {
		now += wait - 1;
		report_frees(1, 3);
		ck_assert_uint_eq(connects, attempts);
		now += 1;
		report_frees(1, 3);
		ck_assert_uint_eq(connects, attempts + 1);
		wait = wait < 2500 * MS ? 2 * wait : 5000 * MS;
	}
	ck_assert_uint_eq(counters().failed_attempts, attempts);
	/* A question wants to know now. */
	ck_assert_int_eq(ttalloc_sync(t), -ENOENT);
	ck_assert_uint_eq(connects, attempts + 1);
}
END_TEST

/* A server that accepts and hangs up again and again is not connected to at every event. */
START_TEST(flapping_server_is_left_alone)
{
	unsigned i;

	connected();
	for (i = 0; i < 100; i++) {
		hang_up();
		report_frees(1, 1);
	}
	ck_assert_uint_eq(connects, 1);
	now += 10 * MS;
	report_frees(1, 1);
	ck_assert_uint_eq(connects, 2);
}
END_TEST

START_TEST(full_queue_drops_and_counts)
{
	report_frees(1, TTALLOC_QUEUE_EVENTS + 10);
	ck_assert_uint_eq(counters().queued, TTALLOC_QUEUE_EVENTS);
	ck_assert_uint_eq(counters().dropped, 10);
	server_start();
	now += 10 * MS;
	/* One that finds the queue full at a time when it can be emptied is not dropped. */
	report_frees(1, 1);
	ck_assert_uint_eq(counters().dropped, 10);
	ck_assert_uint_eq(counters().sent + counters().queued, TTALLOC_QUEUE_EVENTS + 1);
}
END_TEST

START_TEST(no_memory_for_the_queue)
{
	mmap_fails = true;
	report_frees(1, 5);
	ck_assert_uint_eq(counters().dropped, 5);
	ck_assert_uint_eq(counters().queued, 0);
}
END_TEST

/* --- a server that dies --- */

START_TEST(dead_server_raises_nothing)
{
	connected();
	signal(SIGPIPE, SIG_DFL);
	server_stop();
	report_frees(1, 10);
	ck_assert_uint_eq(counters().queued, 10);
	server_start();
	now += 10 * MS;
	report_frees(11, 11);
	server_accept();
	expect_frees(1, 11);
	ck_assert_uint_eq(counters().connections, 2);
	/* The first event was on the connection that broke, and nobody ever said that it was booked. */
	ck_assert_uint_eq(counters().uncertain, 1);
}
END_TEST

/* The new server is there when the old connection turns out to be dead: not one event waits for a backoff. */
START_TEST(restarted_server_is_found_at_once)
{
	connected();
	server_stop();
	server_start();
	now += 10 * MS;
	report_frees(1, 1);
	server_accept();
	expect_frees(1, 1);
	ck_assert_uint_eq(counters().queued, 0);
}
END_TEST

/* --- a server that stalls --- */

START_TEST(stall_is_waited_for_once)
{
	const int64_t before = now;
	uint64_t n = 0, first;

	connected();
	while (counters().stalls == 0)
		report_frees(n + 1, n + 1), n++;
	ck_assert_int_eq(now - before, TTALLOC_EVENT_BOUND_MS * MS);
	first = counters().sent;
	polls = 0;
	report_frees(n + 1, n + 100000);
	n += 100000;
	ck_assert_uint_eq(polls, 0);
	ck_assert_int_eq(now - before, TTALLOC_EVENT_BOUND_MS * MS);
	ck_assert_uint_eq(counters().stalls, 1);
	ck_assert_uint_eq(counters().sent, first);
	ck_assert_uint_eq(counters().queued, TTALLOC_QUEUE_EVENTS);
	ck_assert_uint_eq(counters().sent + counters().queued + counters().dropped, n + 1);
}
END_TEST

static uint64_t read_so_far;

static void read_everything(void)
{
	uint8_t message[MESSAGE];

	while (server_read(peer, message)) {
		if (message[0] == TTALLOC_MSG_QUERY)
			answer(TTALLOC_MSG_RESPONSE, 0);
		else
			NEED(head_of(message).buffer_id == ++read_so_far);
	}
}

START_TEST(stalled_server_catches_up)
{
	uint64_t n = 0;

	connected();
	while (counters().stalls == 0)
		report_frees(n + 1, n + 1), n++;
	report_frees(n + 1, n + 5000);
	n += 5000;
	read_so_far = 0;
	polls = 0;
	/* It reads again: every event carries more than itself, without waiting, until nothing is queued. */
	while (counters().queued > 0) {
		read_everything();
		report_frees(n + 1, n + 1), n++;
	}
	ck_assert_uint_eq(polls, 0);
	read_everything();
	ck_assert_uint_eq(read_so_far, n);
	ck_assert_uint_eq(counters().dropped, 0);
	/* And from now on a busy server is waited for again. */
	on_poll = read_everything;
	report_frees(n + 1, n + 5000);
	ck_assert_uint_gt(polls, 0);
	ck_assert_uint_eq(counters().queued, 0);
	ck_assert_uint_eq(counters().stalls, 1);
}
END_TEST

START_TEST(sync_catches_up_at_once)
{
	uint64_t n = 0;

	connected();
	while (counters().stalls == 0)
		report_frees(n + 1, n + 1), n++;
	report_frees(n + 1, n + 5000);
	n += 5000;
	read_so_far = 0;
	on_poll = read_everything;
	ck_assert_int_eq(ttalloc_sync(t), 0);
	ck_assert_uint_eq(read_so_far, n);
	ck_assert_uint_eq(counters().queued, 0);
}
END_TEST

/* --- sends that take a part --- */

static unsigned seed;

static ssize_t send_some(int fd, const void *data, size_t len, int flags)
{
	unsigned r = (unsigned)rand_r(&seed);

	NEED(flags & MSG_NOSIGNAL);
	if (r % 4 == 0) {
		errno = r % 8 == 0 ? EAGAIN : EINTR;
		return -1;
	}
	return __real_send(fd, data, r % 3 == 0 ? len : 1 + r % len, flags);
}

START_TEST(torn_messages_are_mended)
{
	uint64_t n;

	connected();
	seed = (unsigned)_i;
	on_send = send_some;
	on_poll = read_everything;
	read_so_far = 0;
	for (n = 1; n <= 2000; n++) {
		ttalloc_free(t, 0, n);
		if (n % 50 == 0)
			ck_assert_int_eq(ttalloc_sync(t), 0);
	}
	ck_assert_int_eq(ttalloc_sync(t), 0);
	ck_assert_uint_eq(read_so_far, 2000);
	ck_assert_uint_eq(counters().sent, 2001);
	ck_assert_uint_eq(counters().queued, 0);
}
END_TEST

/* Takes 50 bytes, then no more. */
static ssize_t send_50(int fd, const void *data, size_t len, int flags)
{
	never_ready = true;
	if (sends++ == 0)
		return __real_send(fd, data, 50, flags);
	errno = EAGAIN;
	return -1;
}

START_TEST(torn_message_starts_again_elsewhere)
{
	uint8_t bytes[200];

	connected();
	on_send = send_50;
	report_frees(1, 1);
	ck_assert_uint_eq(counters().queued, 1);
	ck_assert_int_eq(read(peer, bytes, sizeof(bytes)), 50);
	on_send = NULL;
	hang_up();
	now += 10 * MS;
	report_frees(2, 2);
	server_accept();
	expect_frees(1, 2);
	expect_silence(peer);
	ck_assert_uint_eq(counters().sent, 3);
}
END_TEST

/* A question that was begun on a connection that broke is not asked again: nobody waits for its answer. */
START_TEST(torn_question_is_forgotten)
{
	connected();
	on_send = send_50;
	ck_assert_int_eq(ttalloc_sync(t), -ETIMEDOUT);
	on_send = NULL;
	hang_up();
	now += 10 * MS;
	report_frees(1, 1);
	server_accept();
	expect_frees(1, 1);
	expect_silence(peer);
}
END_TEST

START_TEST(torn_message_without_memory_ends_the_connection)
{
	uint8_t bytes[200];

	connected();
	on_send = send_50;
	mmap_fails = true;
	report_frees(1, 1);
	on_send = NULL;
	ck_assert_int_eq(read(peer, bytes, sizeof(bytes)), 50);
	expect_end(peer);
	ck_assert_uint_eq(counters().dropped, 1);
	now += 10 * MS;
	report_frees(2, 2);
	hang_up();
	server_accept();
	expect_frees(2, 2);
}
END_TEST

/* --- descriptors --- */

START_TEST(standard_descriptors_are_left_free)
{
	int status;
	pid_t pid;

	server_start();
	pid = fork();
	if (pid == 0) {
		int fd;

		close(0);
		close(1);
		close(2);
		ttalloc_free(t, 0, 1);
		for (fd = 0; fd <= 2; fd++)
			if (open("/dev/null", O_RDWR) != fd)
				_exit(1);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	server_accept();
	expect_frees(1, 1);
}
END_TEST

/* The library's descriptor: the lowest number that is free before the first event. */
static int next_descriptor(void)
{
	int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);

	close(fd);
	return fd;
}

START_TEST(descriptor_is_close_on_exec)
{
	int fd;

	server_start();
	fd = next_descriptor();
	report_frees(1, 1);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
}
END_TEST

/* A program that closes everything and uses the number for something else keeps that something. */
START_TEST(stolen_descriptor_is_not_touched)
{
	int fd, ends[2];

	server_start();
	fd = next_descriptor();
	report_frees(0, 0);
	server_accept();
	expect_frees(0, 0);
	close(fd);
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	ck_assert(ends[0] == fd || ends[1] == fd);
	now += 10 * MS;
	hang_up();
	report_frees(1, 1);
	server_accept();
	expect_frees(1, 1);
	expect_silence(ends[0]);
	ck_assert_int_eq(write(ends[1], "x", 1), 1);
	close(ends[0]);
	close(ends[1]);
}
END_TEST

/* --- fork --- */

static void wait_for(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}

START_TEST(child_has_its_own_connection)
{
	int parents;
	pid_t pid;

	connected();
	parents = peer;
	pid = fork();
	if (pid == 0) {
		struct ttalloc_counters c = counters();

		report_frees(101, 200);
		ttalloc_close(t);
		_exit(c.sent != 0);
	}
	wait_for(pid);
	report_frees(1, 100);
	server_accept();
	for (uint64_t n = 101; n <= 200; n++) {
		struct ttalloc_msg_head h = expect(TTALLOC_MSG_FREE);

		ck_assert_uint_eq(h.buffer_id, n);
		ck_assert_int_eq(h.process_id, pid);
	}
	expect_end(peer);
	hang_up();
	peer = parents;
	expect_frees(1, 100);
}
END_TEST

/* A child that never reports does not keep the parent's connection open either. */
START_TEST(child_lets_go_of_the_parents_connection)
{
	int ends[2];
	pid_t pid;
	char c;

	connected();
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		if (write(ends[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	ck_assert_int_eq(read(ends[0], &c, 1), 1);
	ttalloc_close(t);
	t = NULL;
	expect_end(peer);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(ends[0]);
	close(ends[1]);
}
END_TEST

START_TEST(child_does_not_repeat_what_the_parent_queued)
{
	pid_t pid;

	report_frees(1, 10);
	server_start();
	now += 10 * MS;
	pid = fork();
	if (pid == 0) {
		report_frees(100, 100);
		ttalloc_close(t);
		_exit(0);
	}
	wait_for(pid);
	server_accept();
	expect_frees(100, 100);
	expect_end(peer);
	hang_up();
	report_frees(11, 11);
	server_accept();
	expect_frees(1, 11);
}
END_TEST

static int in_poll[2], go_on[2];

static void stay_in_poll(void)
{
	char c;

	ck_assert_int_eq(write(in_poll[1], "x", 1), 1);
	ck_assert_int_eq(read(go_on[0], &c, 1), 1);
}

static void *report_until_stalled(void *arg)
{
	while (counters().stalls == 0)
		ttalloc_free(t, 0, 1);
	return arg;
}

/* The lock is held by a thread that waits for the server, and that does not exist in the child. */
START_TEST(fork_while_another_thread_holds_the_lock)
{
	pthread_t thread;
	pid_t pid;
	char c;

	connected();
	ck_assert_int_eq(pipe2(in_poll, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(go_on, O_CLOEXEC), 0);
	on_poll = stay_in_poll;
	ck_assert_int_eq(pthread_create(&thread, NULL, report_until_stalled, NULL), 0);
	ck_assert_int_eq(read(in_poll[0], &c, 1), 1);
	pid = fork();
	if (pid == 0) {
		on_poll = NULL;
		report_frees(5, 6);
		ttalloc_close(t);
		_exit(0);
	}
	wait_for(pid);
	ck_assert_int_eq(write(go_on[1], "x", 1), 1);
	pthread_join(thread, NULL);
	hang_up();
	server_accept();
	expect_frees(5, 6);
	close(in_poll[0]);
	close(in_poll[1]);
	close(go_on[0]);
	close(go_on[1]);
}
END_TEST

/* --- threads --- */

#define THREADS 8
#define EVENTS_PER_THREAD 5000

static void *report_own_sequence(void *arg)
{
	const uint64_t thread = (uint64_t)(uintptr_t)arg;
	uint64_t n;

	for (n = 0; n < EVENTS_PER_THREAD; n++)
		ttalloc_alloc(t, (int)thread, TTALLOC_DRAM, thread << 32 | n, n + 1);
	return NULL;
}

static void *ask_now_and_then(void *arg)
{
	unsigned i;

	for (i = 0; i < 200; i++)
		NEED(ttalloc_sync(t) == 0);
	return arg;
}

/* Reads until the end of the stream; answers questions; checks that each thread's events come whole and in order. */
static void *serve(void *arg)
{
	uint64_t next[THREADS] = { 0 }, *seen = arg;
	uint8_t message[MESSAGE];
	struct ttalloc_msg_head h;
	int fd = accept(listener, NULL, NULL);

	while (server_read(fd, message)) {
		h = head_of(message);
		if (h.type == TTALLOC_MSG_QUERY) {
			memset(message, 0, sizeof(message));
			message[0] = TTALLOC_MSG_RESPONSE;
			NEED(write(fd, message, sizeof(message)) == sizeof(message));
			continue;
		}
		NEED(h.type == TTALLOC_MSG_ALLOC);
		NEED(h.buffer_id >> 32 < THREADS);
		NEED((h.buffer_id & UINT32_MAX) == next[h.buffer_id >> 32]++);
		NEED(h.device_id == (int)(h.buffer_id >> 32));
		(*seen)++;
	}
	close(fd);
	return NULL;
}

/* Lets the other threads in at the worst moment: when a message is made but not sent. */
static ssize_t send_after_others(int fd, const void *data, size_t len, int flags)
{
	sched_yield();
	return __real_send(fd, data, len, flags);
}

START_TEST(threads_do_not_interleave)
{
	pthread_t threads[THREADS], server, asker;
	uint64_t seen = 0;
	uintptr_t i;

	faked = false;
	on_send = send_after_others;
	server_start();
	ck_assert_int_eq(pthread_create(&server, NULL, serve, &seen), 0);
	for (i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, report_own_sequence, (void *)i), 0);
	ck_assert_int_eq(pthread_create(&asker, NULL, ask_now_and_then, NULL), 0);
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	pthread_join(asker, NULL);
	ck_assert_int_eq(ttalloc_sync(t), 0);
	ck_assert_uint_eq(counters().sent, THREADS * EVENTS_PER_THREAD);
	ttalloc_close(t);
	t = NULL;
	pthread_join(server, NULL);
	ck_assert_uint_eq(seen, THREADS * EVENTS_PER_THREAD);
}
END_TEST

static void *report_when_cancelled(void *arg)
{
	bool *reported = arg;

	pthread_cancel(pthread_self());
	ttalloc_free(t, 0, 1);
	*reported = true;
	pthread_testcancel();
	return NULL;
}

START_TEST(cancelled_thread_leaves_no_lock)
{
	bool reported = false;
	pthread_t thread;
	void *result;

	connected();
	ck_assert_int_eq(pthread_create(&thread, NULL, report_when_cancelled, &reported), 0);
	pthread_join(thread, &result);
	ck_assert_ptr_eq(result, PTHREAD_CANCELED);
	ck_assert(reported);
	report_frees(2, 2);
	expect_frees(1, 2);
}
END_TEST

/* --- questions --- */

static uint8_t reply[MESSAGE];
static struct ttalloc_msg_head question;

/* Plays the server for one question: takes what is there, answers with `reply`. */
static void answer_with_reply(void)
{
	if (peer < 0)
		server_accept();
	do {
		uint8_t message[MESSAGE];

		ck_assert(server_read(peer, message));
		question = head_of(message);
	} while (question.type != TTALLOC_MSG_QUERY && question.type != TTALLOC_MSG_DEVICE_INFO_QUERY);
	ck_assert_int_eq(write(peer, reply, MESSAGE), MESSAGE);
}

static void put_u64(size_t offset, uint64_t v)
{
	memcpy(reply + offset, &v, sizeof(v));
}

START_TEST(query_reads_the_totals)
{
	struct ttalloc_totals totals;

	server_start();
	memset(reply, 0, sizeof(reply));
	reply[0] = TTALLOC_MSG_RESPONSE;
	put_u64(40, 1);
	put_u64(48, 2);
	put_u64(56, 3);
	put_u64(64, 4);
	put_u64(72, 5);
	put_u64(80, UINT64_MAX);
	on_poll = answer_with_reply;
	ck_assert_int_eq(ttalloc_query(t, 7, &totals), 0);
	ck_assert_int_eq(question.device_id, 7);
	ck_assert_int_eq(question.process_id, getpid());
	ck_assert_uint_eq(totals.dram, 1);
	ck_assert_uint_eq(totals.l1, 2);
	ck_assert_uint_eq(totals.l1_small, 3);
	ck_assert_uint_eq(totals.trace, 4);
	ck_assert_uint_eq(totals.cb, 5);
	ck_assert_uint_eq(totals.kernel, UINT64_MAX);
}
END_TEST

START_TEST(device_info_reads_the_capacity)
{
	const uint32_t words[] = { TTALLOC_ARCH_BLACKHOLE, 8, 0x10000000, 1499136, 1, 32 };
	struct ttalloc_capacity capacity;
	uint32_t count;

	server_start();
	memset(reply, 0, sizeof(reply));
	reply[0] = TTALLOC_MSG_DEVICE_INFO_RESPONSE;
	put_u64(88, UINT64_C(34359738368));
	put_u64(96, 220000000);
	memcpy(reply + 104, words, sizeof(words));
	on_poll = answer_with_reply;
	ck_assert_int_eq(ttalloc_device_info(t, 3, &capacity), 0);
	ck_assert_int_eq(question.device_id, 3);
	ck_assert_uint_eq(capacity.dram, UINT64_C(34359738368));
	ck_assert_uint_eq(capacity.l1, 220000000);
	ck_assert_uint_eq(capacity.arch, TTALLOC_ARCH_BLACKHOLE);
	ck_assert_uint_eq(capacity.dram_channels, 8);
	ck_assert_uint_eq(capacity.dram_per_channel, 0x10000000);
	ck_assert_uint_eq(capacity.l1_per_core, 1499136);
	ck_assert_int_eq(ttalloc_device_count(t, &count), 0);
	ck_assert_int_eq(question.device_id, -1);
	ck_assert_uint_eq(count, 32);
	memset(reply + 120, 0, 4);
	ck_assert_int_eq(ttalloc_device_info(t, 3, &capacity), -ENODEV);
}
END_TEST

START_TEST(dump_precedes_its_question)
{
	connected();
	report_frees(1, 1);
	answer(TTALLOC_MSG_RESPONSE, 0);
	ck_assert_int_eq(ttalloc_dump(t), 0);
	expect_frees(1, 1);
	expect(TTALLOC_MSG_DUMP);
	expect(TTALLOC_MSG_QUERY);
	expect_silence(peer);
	ck_assert_uint_eq(counters().sent, 2);
}
END_TEST

START_TEST(silent_server_is_given_up)
{
	const int64_t before = now;
	struct ttalloc_totals totals;

	connected();
	ck_assert_int_eq(ttalloc_query(t, 0, &totals), -ETIMEDOUT);
	ck_assert_int_eq(now - before, TTALLOC_QUESTION_BOUND_MS * MS);
	/* The answer that came too late is not taken for the answer to the next question. */
	expect(TTALLOC_MSG_QUERY);
	answer(TTALLOC_MSG_RESPONSE, 111);
	answer(TTALLOC_MSG_RESPONSE, 222);
	ck_assert_int_eq(ttalloc_query(t, 0, &totals), 0);
	ck_assert_uint_eq(totals.dram, 222);
}
END_TEST

/* Event calls go on while a question waits. */
static void report_meanwhile(void)
{
	static bool nested;

	if (nested)
		return;
	nested = true;
	report_frees(1, 10);
	expect(TTALLOC_MSG_QUERY);
	expect_frees(1, 10);
	answer(TTALLOC_MSG_RESPONSE, 0);
	nested = false;
}

START_TEST(events_do_not_wait_for_answers)
{
	connected();
	on_poll = report_meanwhile;
	ck_assert_int_eq(ttalloc_sync(t), 0);
	/* What was reported after the question is not confirmed by its answer. */
	hang_up();
	report_frees(11, 11);
	ck_assert_uint_eq(counters().uncertain, 10);
}
END_TEST

START_TEST(wrong_answer_ends_the_connection)
{
	struct ttalloc_totals totals;

	connected();
	answer(TTALLOC_MSG_DEVICE_INFO_RESPONSE, 0);
	ck_assert_int_eq(ttalloc_query(t, 0, &totals), -EPROTO);
	expect(TTALLOC_MSG_QUERY);
	expect_end(peer);
}
END_TEST

START_TEST(server_gone_is_said)
{
	connected();
	on_poll = hang_up;
	ck_assert_int_eq(ttalloc_sync(t), -ECONNRESET);
	server_stop();
	ck_assert_int_eq(ttalloc_sync(t), -ENOENT);
	server_start();
	close(listener);
	listener = -1;
	ck_assert_int_eq(ttalloc_sync(t), -ECONNREFUSED);
}
END_TEST

static void accept_and_answer(void)
{
	if (peer < 0)
		server_accept();
	read_everything();
}

START_TEST(sync_tells_of_losses_once)
{
	server_start();
	on_poll = accept_and_answer;
	read_so_far = 0;
	report_frees(1, 1);
	ck_assert_int_eq(ttalloc_sync(t), 0);
	report_frees(2, 2);
	read_everything();
	hang_up();
	now += 10 * MS;
	report_frees(3, 3);
	ck_assert_int_eq(ttalloc_sync(t), -EIO);
	ck_assert_uint_eq(counters().uncertain, 1);
	ck_assert_int_eq(ttalloc_sync(t), 0);
}
END_TEST

/* --- marks --- */

/* By message: in pieces, behind what came before, and no events. */
START_TEST(marks_are_messages)
{
	static const char *const pieces[] = { "a-name.of_sixty-three-ch", "aracters--that-takes-thr", "ee-messages-one" };
	struct ttalloc_msg_head h;
	unsigned i;

	server_start();
	report_frees(1, 1);
	server_accept();
	ck_assert_int_eq(ttalloc_mark(t, "a-name.of_sixty-three-characters--that-takes-three-messages-one"), 0);
	report_frees(2, 2);
	expect_frees(1, 1);
	for (i = 0; i < 3; i++) {
		char text[24] = "";

		memcpy(text, pieces[i], strlen(pieces[i]));
		h = expect(TTALLOC_MSG_MARK);
		ck_assert_int_eq(h.device_id, (int)i * 24);
		ck_assert_uint_eq(h.buffer_type, 63);
		ck_assert_int_eq(h.process_id, getpid());
		ck_assert_mem_eq(&h.size, text, 8);
		ck_assert_mem_eq(&h.buffer_id, text + 8, 8);
		ck_assert_mem_eq(&h.timestamp, text + 16, 8);
	}
	expect_frees(2, 2);
	ck_assert_uint_eq(counters().sent, 2);
}
END_TEST

/* --- asking for a ring; the rest is in test-client-ring.c --- */

static void expect_request(void)
{
	struct ttalloc_msg_head h = expect(TTALLOC_MSG_RING);

	ck_assert_uint_eq(h.buffer_id, TTALLOC_RING_MAGIC);
	ck_assert_uint_eq(h.size, TTALLOC_RING_VERSION);
	ck_assert_int_eq(h.process_id, getpid());
	ck_assert_int_eq(h.device_id, 0);
	ck_assert_uint_eq(h.buffer_type, 0);
	ck_assert_uint_eq(h.timestamp, 0);
}

/* A server that does not know rings is waited for once per connection. */
START_TEST(unanswered_request_is_waited_for_once)
{
	const int64_t before = now;

	hears_of_rings = true;
	server_start();
	report_frees(1, 10);
	ck_assert_int_eq(now - before, TTALLOC_EVENT_BOUND_MS * MS);
	ck_assert_uint_eq(counters().stalls, 1);
	ck_assert_uint_eq(counters().sent, 10);
	ck_assert_uint_eq(counters().rings, 0);
	server_accept();
	expect_request();
	expect_frees(1, 10);
	hang_up();
	now += 10 * MS;
	/* What meets the broken connection goes before the request on the next one. */
	report_frees(11, 12);
	server_accept();
	expect_frees(11, 11);
	expect_request();
	expect_frees(12, 12);
	ck_assert_uint_eq(counters().stalls, 2);
}
END_TEST

START_TEST(backlog_goes_before_the_request)
{
	hears_of_rings = true;
	report_frees(1, 100);
	server_start();
	now += 10 * MS;
	report_frees(101, 101);
	server_accept();
	expect_frees(1, 101);
	expect_silence(peer);
	report_frees(102, 102);
	expect_request();
	expect_frees(102, 102);
}
END_TEST

START_TEST(torn_request_is_mended)
{
	uint8_t bytes[200];

	hears_of_rings = true;
	server_start();
	on_send = send_50;
	report_frees(1, 2);
	ck_assert_uint_eq(counters().sent, 0);
	server_accept();
	ck_assert_int_eq(read(peer, bytes, sizeof(bytes)), 50);
	on_send = NULL;
	never_ready = false;
	if (_i == 0) {
		report_frees(3, 3);
		ck_assert_int_eq(read(peer, bytes, MESSAGE - 50), MESSAGE - 50);
		expect_frees(1, 3);
	} else {
		/* On another connection it is not sent again but made again. */
		hang_up();
		now += 10 * MS;
		report_frees(3, 3);
		server_accept();
		expect_frees(1, 3);
		report_frees(4, 4);
		expect_request();
		expect_frees(4, 4);
	}
	ck_assert_uint_eq(counters().sent, _i == 0 ? 3 : 4);
}
END_TEST

/* An answer that nobody has asked for. */
START_TEST(unknown_answer_to_a_request_ends_the_connection)
{
	hears_of_rings = true;
	server_start();
	report_frees(1, 1);
	server_accept();
	expect_request();
	expect_frees(1, 1);
	answer(TTALLOC_MSG_RESPONSE, 0);
	now += 10 * MS;
	report_frees(2, 2);
	expect_end(peer);
}
END_TEST

/* The refusal comes in two pieces; then nobody asks again. */
START_TEST(refusal_in_pieces)
{
	uint8_t message[MESSAGE] = { TTALLOC_MSG_RING_RESPONSE };
	int32_t status = -ENOMEM;

	hears_of_rings = true;
	server_start();
	report_frees(1, 1);
	server_accept();
	expect_request();
	memcpy(message + 4, &status, sizeof(status));
	ck_assert_int_eq(write(peer, message, 100), 100);
	report_frees(2, 2);
	ck_assert_int_eq(write(peer, message + 100, MESSAGE - 100), MESSAGE - 100);
	report_frees(3, 5);
	expect_frees(1, 5);
	expect_silence(peer);
	answer(TTALLOC_MSG_RESPONSE, 0);
	ck_assert_int_eq(ttalloc_sync(t), 0);
}
END_TEST

static void add(TCase *tc, const TTest *const tests[], size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		tcase_add_test(tc, tests[i]);
}

#define ADD(tc, ...) \
	add(tc, (const TTest *const[]){ __VA_ARGS__ }, sizeof((const TTest *const[]){ __VA_ARGS__ }) / sizeof(TTest *))

static TCase *tcase(Suite *s, const char *name)
{
	TCase *tc = tcase_create(name);

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	suite_add_tcase(s, tc);
	return tc;
}

int main(void)
{
	Suite *s = suite_create("client");
	SRunner *runner;
	TCase *tc;
	int failed;

	ADD(tcase(s, "messages"), messages_are_exact, every_event_has_its_message);
	ADD(tcase(s, "instances"), null_instance_does_nothing, only_1_turns_tracking_on, default_paths, paths_given,
	    close_delivers_what_is_queued);
	ADD(tcase(s, "no server"), errno_is_kept, backlog_is_delivered_in_order, attempts_back_off,
	    flapping_server_is_left_alone, full_queue_drops_and_counts, no_memory_for_the_queue);
	ADD(tcase(s, "dead server"), dead_server_raises_nothing, restarted_server_is_found_at_once);
	ADD(tcase(s, "stalled server"), stall_is_waited_for_once, stalled_server_catches_up, sync_catches_up_at_once);
	tc = tcase(s, "torn messages");
	tcase_add_loop_test(tc, torn_messages_are_mended, 0, 50);
	ADD(tc, torn_message_starts_again_elsewhere, torn_question_is_forgotten,
	    torn_message_without_memory_ends_the_connection);
	ADD(tcase(s, "descriptors"), standard_descriptors_are_left_free, descriptor_is_close_on_exec,
	    stolen_descriptor_is_not_touched);
	ADD(tcase(s, "fork"), child_has_its_own_connection, child_lets_go_of_the_parents_connection,
	    child_does_not_repeat_what_the_parent_queued, fork_while_another_thread_holds_the_lock);
	ADD(tcase(s, "threads"), threads_do_not_interleave, cancelled_thread_leaves_no_lock);
	ADD(tcase(s, "marks"), marks_are_messages);
	ADD(tcase(s, "questions"), query_reads_the_totals, device_info_reads_the_capacity, dump_precedes_its_question,
	    silent_server_is_given_up, events_do_not_wait_for_answers, wrong_answer_ends_the_connection,
	    server_gone_is_said, sync_tells_of_losses_once);
	tc = tcase(s, "ring");
	ADD(tc, unanswered_request_is_waited_for_once, backlog_goes_before_the_request,
	    unknown_answer_to_a_request_ends_the_connection, refusal_in_pieces);
	tcase_add_loop_test(tc, torn_request_is_mended, 0, 2);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
