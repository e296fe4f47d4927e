/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-intake.c - the edge where clients come in: tracker/intake.c, listener.c, peer.c, watch.c.
 *
 * Real sockets and real processes, a real registry, no mount, and no sleep: pipes tell when a child has done something,
 * and what it did is booked by one loop_drain(), which is promise 1. With TTALLOC_CAPTURES set to the directory of the
 * recorded streams, they are sent, too. What needs root (other users, namespaces, /run) is left out without it.
 */
#include "tracker/intake.h"

#include <check.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/ttalloc-proto.h"
#include "client/ttalloc-ring.h"
#include "tests/util-registry.h"

static struct util *util;
static struct loop *loop;
static struct log *logger;
static struct server_info info;
static struct intake *intake;
static char dir[64];
static char path[96];
static int null_fd;
static char comm[32];

/* ---- kernels of other days: these two stand in for the system calls under the tracker ---- */

static bool old_kernel;   /* without SO_PEERPIDFD: before Linux 6.5, as in Debian 12 */
static int accept_error;  /* of the next accept4(); 0 = none */

int getsockopt(int fd, int level, int name, void *restrict value, socklen_t *restrict len)
{
	if (old_kernel && level == SOL_SOCKET && name == 77) {
		errno = ENOPROTOOPT;
		return -1;
	}
	return (int)syscall(SYS_getsockopt, fd, level, name, value, len);
}

int accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict len, int flags)
{
	if (accept_error) {
		errno = accept_error;
		accept_error = 0;
		return -1;
	}
	return (int)syscall(SYS_accept4, fd, address, len, flags);
}

/* Live buffers at each dump that was asked for. */
static uint64_t dumped[16];
static unsigned dumps;

static void on_dump(void *data)
{
	ck_assert_ptr_eq(data, &info);
	dumped[dumps++ % 16] = registry_totals(util->reg).count;
}

/* ---- the server ---- */

static struct intake *new_intake(void)
{
	struct intake_config config = {
		.loop = loop, .log = logger, .ingest = &util->in, .info = &info, .dump = on_dump, .data = &info,
	};
	struct intake *in;

	ck_assert_int_eq(intake_new(&in, &config), 0);
	return in;
}

static void listen_here(struct intake *in)
{
	struct textbuf why = TEXTBUF_INIT;

	ck_assert_int_eq(intake_listen(in, path, &why), 0);
	ck_assert_uint_eq(why.len, 0);
	textbuf_deinit(&why);
}

static void server_start(void)
{
	util = util_new(1 << 20, 0, 0);
	info = (struct server_info){ .max_clients = INTAKE_MAX_CLIENTS_DEFAULT };
	dumps = 0;
	ck_assert_int_eq(loop_new(&loop), 0);
	null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	ck_assert_int_eq(log_new(&logger, loop, null_fd, LOG_LEVEL_INFO), 0);
	intake = new_intake();
}

static void server_stop(void)
{
	intake_free(intake);
	log_free(logger);
	close(null_fd);
	loop_free(loop);
	util_free(util);
}

static void setup(void)
{
	ck_assert_ptr_ne(signal(SIGPIPE, SIG_IGN), SIG_ERR);
	ck_assert_int_eq(prctl(PR_GET_NAME, comm), 0);
	strcpy(dir, "/tmp/test-intake-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chmod(dir, 0755), 0);
	snprintf(path, sizeof(path), "%s/sock", dir);
	server_start();
	listen_here(intake);
}

static void setup_old_kernel(void)
{
	old_kernel = true;
	setup();
}

static void teardown(void)
{
	old_kernel = false;
	util_check_totals(util);
	server_stop();
	ck_assert_int_eq(rmdir(dir), 0);  /* so nothing was left in it */
}

static bool (*is_so)(void);

static void look(struct loop_hook *h)
{
	if (is_so())
		loop_stop(loop, 0);
}

/* Runs the loop until something is so. */
static void run_until(bool (*condition)(void))
{
	static struct loop_hook hook = { .turn = look };

	is_so = condition;
	loop_hook_add(loop, &hook);
	ck_assert_int_eq(loop_run(loop), 0);
}

static uint64_t live(void)
{
	return registry_totals(util->reg).count;
}

/* The newest process of that pid. */
static const struct process *process_of(pid_t pid)
{
	uint32_t slot = registry_process_find(util->reg, pid);

	ck_assert_uint_ne(slot, PROCESS_NONE);
	return registry_process(util->reg, slot);
}

static bool error_log_says(const char *words)
{
	struct textbuf t = TEXTBUF_INIT;
	bool found;

	errlog_text(&util->errlog, &t);
	textbuf_putc(&t, '\0');
	found = strstr(t.data, words);
	textbuf_deinit(&t);
	return found;
}

/* Under a valgrind that knows neither pidfd_open() nor limits of descriptors: the tests that need them do nothing. */
static bool is_emulated(void)
{
	int fd = pidfd_open(getpid(), 0);

	if (fd < 0)
		return true;
	close(fd);
	return false;
}

/* ---- clients ---- */

static int connect_path(const char *to)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	strcpy(address.sun_path, to);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static int client(void)
{
	int fd = connect_path(path);

	ck_assert_int_ge(fd, 0);
	return fd;
}

struct stream {
	uint8_t data[1 << 16];
	size_t len;
};

static struct ttalloc_msg_head message(uint8_t type, int device, uint64_t address, uint64_t size)
{
	return (struct ttalloc_msg_head){
		.type = type,
		.device_id = (int32_t)htole32((uint32_t)device),
		.size = htole64(size),
		.process_id = (int32_t)htole32((uint32_t)getpid()),
		.buffer_id = htole64(address),
	};
}

static void put(struct stream *s, unsigned dialect, struct ttalloc_msg_head head)
{
	ck_assert_uint_le(s->len + dialect, sizeof(s->data));
	memset(s->data + s->len, 0, dialect);
	memcpy(s->data + s->len, &head, sizeof(head));
	s->len += dialect;
}

static void send_bytes(int fd, const void *data, size_t len)
{
	ck_assert_int_eq(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void send_stream(int fd, struct stream *s)
{
	send_bytes(fd, s->data, s->len);
	s->len = 0;
}

static void send_message(int fd, unsigned dialect, struct ttalloc_msg_head head)
{
	struct stream s = { .len = 0 };

	put(&s, dialect, head);
	send_stream(fd, &s);
}

/* One buffer of 1000 bytes in DRAM of device 0; `pid` is what the sender calls itself. */
static void send_alloc_as(int fd, pid_t pid, uint64_t address)
{
	struct ttalloc_msg_head head = message(TTALLOC_MSG_ALLOC, 0, address, 1000);

	head.process_id = (int32_t)htole32((uint32_t)pid);
	send_message(fd, 72, head);
}

static void send_alloc(int fd, uint64_t address)
{
	send_alloc_as(fd, getpid(), address);
}

static uint64_t u64_at(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

/* Bytes that are there to be read now. */
static size_t receive(int fd, uint8_t *data, size_t size)
{
	ssize_t n = recv(fd, data, size, MSG_DONTWAIT);

	return n > 0 ? (size_t)n : 0;
}

static bool is_closed(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);

	return n == 0 || (n < 0 && errno == ECONNRESET);
}

/* ---- children ---- */

/* A child and two pipes to keep in step with it. */
struct child {
	pid_t pid;
	int tell;   /* to the child */
	int hear;   /* from the child */
};

/* In the child: waits for the parent's word; ends when the parent is gone. */
static void await(int fd)
{
	char byte;

	if (read(fd, &byte, 1) != 1)
		_exit(1);
}

static void say(int fd)
{
	if (write(fd, "", 1) != 1)
		_exit(1);
}

/* A child with this pid, which must be free; -1 and errno when the system does not let us choose. */
static pid_t fork_as(pid_t pid)
{
	struct clone_args args = {
		.exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&pid, .set_tid_size = 1,
	};

	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* `pid`: the one that it is to have; 0 = any. Child.pid is -1 if that cannot be. */
static struct child spawn_as(pid_t pid, void (*run)(int hear, int say))
{
	int down[2], up[2];
	struct child c;

	ck_assert_int_eq(pipe2(down, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(up, O_CLOEXEC), 0);
	c.pid = pid ? fork_as(pid) : fork();
	if (!c.pid) {
		close(down[1]);
		close(up[0]);
		run(down[0], up[1]);
		_exit(0);
	}
	close(down[0]);
	close(up[1]);
	c.tell = down[1];
	c.hear = up[0];
	if (c.pid < 0) {
		close(c.tell);
		close(c.hear);
	}
	return c;
}

static struct child spawn(void (*run)(int hear, int say))
{
	struct child c = spawn_as(0, run);

	ck_assert_int_ge(c.pid, 0);
	return c;
}

static void child_done(const struct child *c)
{
	char byte;

	ck_assert_int_eq(read(c->hear, &byte, 1), 1);
}

static void child_go(const struct child *c)
{
	ck_assert_int_eq(write(c->tell, "", 1), 1);
}

/* Ends it, if it has not ended yet, by a signal or else by the word that it waits for, and reaps it. */
static void child_end(struct child *c, int sig)
{
	if (sig)
		ck_assert_int_eq(kill(c->pid, sig), 0);
	else
		(void)!write(c->tell, "", 1);
	close(c->tell);
	ck_assert_int_eq(waitpid(c->pid, NULL, 0), c->pid);
	close(c->hear);
}

/* ---- streams ---- */

#define STREAM_EVENTS 300

/* 200 buffers of various sizes, 100 of which are freed, and a question in the midst. */
static void make_stream(struct stream *s, unsigned dialect)
{
	for (unsigned i = 0; i < 200; i++)
		put(s, dialect, message(TTALLOC_MSG_ALLOC, 1, 0x1000 * (i + 1), 100 + i));
	for (unsigned i = 0; i < 100; i++)
		put(s, dialect, message(TTALLOC_MSG_FREE, 1, 0x1000 * (2 * i + 1), 0));
}

static void expect_stream(unsigned streams)
{
	const struct device *d = registry_device(util->reg, 1);

	ck_assert_uint_eq(registry_counters(util->reg)->events_total, (uint64_t)STREAM_EVENTS * streams);
	ck_assert_ptr_nonnull(d);
	ck_assert_uint_eq(d->type[BUFFER_DRAM].count, 100U * streams);
	ck_assert_uint_eq(d->type[BUFFER_DRAM].bytes, 20000U * streams);  /* 101, 103, ... 299 */
	ck_assert_uint_eq(d->type[BUFFER_DRAM].allocs, 200U * streams);
	ck_assert_uint_eq(d->type[BUFFER_DRAM].frees, 100U * streams);
}

static const unsigned dialects[] = { 72, 112, 128, 144 };

START_TEST(test_stream_whole)
{
	struct stream s = { .len = 0 };
	int fd = client();

	make_stream(&s, dialects[_i]);
	send_stream(fd, &s);
	loop_drain(loop);
	expect_stream(1);
	ck_assert_uint_eq(process_of(getpid())->dialect, dialects[_i]);
	ck_assert_uint_eq(process_of(getpid())->events, STREAM_EVENTS);
	close(fd);
}
END_TEST

START_TEST(test_stream_bytewise)
{
	struct stream s = { .len = 0 };
	int fd = client();

	make_stream(&s, dialects[_i]);
	for (size_t i = 0; i < s.len; i++) {
		send_bytes(fd, s.data + i, 1);
		loop_drain(loop);
	}
	expect_stream(1);
	close(fd);
}
END_TEST

START_TEST(test_stream_cut)
{
	struct stream s = { .len = 0 };
	unsigned state = 12345;
	int fd = client();

	make_stream(&s, dialects[_i]);
	for (size_t at = 0, len; at < s.len; at += len) {
		state = state * 1103515245 + 12345;
		len = 1 + (state >> 16) % 400;
		if (len > s.len - at)
			len = s.len - at;
		send_bytes(fd, s.data + at, len);
		if (state & 0x8000)
			loop_drain(loop);
	}
	loop_drain(loop);
	expect_stream(1);
	close(fd);
}
END_TEST

static void send_stream_as_child(int hear, int tell)
{
	struct stream s = { .len = 0 };
	int fd;

	await(hear);
	fd = connect_path(path);
	make_stream(&s, getpid() % 2 ? 72 : 144);
	if (fd < 0 || send(fd, s.data, s.len, MSG_NOSIGNAL) != (ssize_t)s.len)
		_exit(1);
	say(tell);
	await(hear);
}

START_TEST(test_dialects_at_once)
{
	struct child c[8];
	unsigned of_144 = 0;

	for (int i = 0; i < 8; i++)
		c[i] = spawn(send_stream_as_child);
	for (int i = 0; i < 8; i++)
		child_go(&c[i]);
	for (int i = 0; i < 8; i++)
		child_done(&c[i]);
	loop_drain(loop);
	expect_stream(8);
	for (int i = 0; i < 8; i++) {
		const struct process *p = process_of(c[i].pid);

		ck_assert_uint_eq(p->dialect, c[i].pid % 2 ? 72 : 144);
		ck_assert_uint_eq(p->total.count, 100);
		ck_assert_uint_eq(p->total.bytes, 20000);
		of_144 += p->dialect == 144;
		child_end(&c[i], 0);
	}
	ck_assert_uint_gt(of_144, 0);
	loop_drain(loop);
	ck_assert_uint_eq(registry_suspects(util->reg), 800);
	ck_assert_uint_eq(info.clients, 0);
}
END_TEST

/* More than the buffer of the intake holds, sent at once. */
START_TEST(test_everything_that_is_pending_is_taken)
{
	enum { N = 60000 };
	int fd = client(), size = 8 << 20;
	uint8_t *data = calloc(N, 72);
	socklen_t len = sizeof(size);

	ck_assert_ptr_nonnull(data);
	for (unsigned i = 0; i < N; i++) {
		struct ttalloc_msg_head head = message(TTALLOC_MSG_ALLOC, 0, 64 * (i + 1), 64);

		memcpy(data + i * 72, &head, sizeof(head));
	}
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &len), 0);
	if (size >= 8 << 20) {  /* not root: it does not fit */
		send_bytes(fd, data, N * 72);
		loop_drain(loop);
		ck_assert_uint_eq(live(), N);
	}
	free(data);
	close(fd);
}
END_TEST

/* A message that carries a descriptor ends what one recvmsg() takes; nobody wants the descriptor. */
START_TEST(test_messages_with_descriptors_are_all_taken)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct ttalloc_msg_head head = message(TTALLOC_MSG_ALLOC, 0, 0, 64);
	uint8_t data[72] = { 0 };
	struct iovec iov = { data, sizeof(data) };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control),
	};
	int fd = client(), ends[2];
	char byte;

	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	memcpy(CMSG_DATA(&control.header), &ends[1], sizeof(int));
	for (uint64_t i = 1; i <= 10; i++) {
		head.buffer_id = htole64(64 * i);
		memcpy(data, &head, sizeof(head));
		ck_assert_int_eq(sendmsg(fd, &m, MSG_NOSIGNAL), sizeof(data));
	}
	close(ends[1]);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 10);
	ck_assert_int_eq(read(ends[0], &byte, 1), 0);
	close(ends[0]);
	close(fd);
}
END_TEST

struct capture {
	const char *name;
	uint64_t events, live, bytes, refs, unknown, doubles;
	unsigned dialect;
};

/* As in expected.json. */
static const struct capture captures[] = {
	{ "lib72.c2s", 1128, 280, 274833408, 8, 8, 8, 72 },
	{ "lib144.c2s", 2328, 424, 276123648, 8, 8, 8, 144 },
	{ "demo72.c2s", 32, 0, 0, 0, 0, 0, 72 },
	{ "dump72.c2s", 1, 0, 0, 0, 0, 0, 72 },
	{ "monitor112.c2s", 11, 0, 0, 0, 0, 0, 112 },
};

START_TEST(test_captures)
{
	const struct capture *c = &captures[_i];
	const struct counters *k = registry_counters(util->reg);
	static uint8_t data[1 << 20];
	char file[512];
	int fd, in;

	if (!getenv("TTALLOC_CAPTURES"))
		return;
	snprintf(file, sizeof(file), "%s/%s", getenv("TTALLOC_CAPTURES"), c->name);
	in = open(file, O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(in, 0);
	fd = client();
	for (ssize_t n; (n = read(in, data, 1000)) > 0; loop_drain(loop))
		send_bytes(fd, data, (size_t)n);
	ck_assert_uint_eq(k->events_total, c->events);
	ck_assert_uint_eq(live(), c->live);
	ck_assert_uint_eq(registry_totals(util->reg).bytes, c->bytes);
	ck_assert_uint_eq(k->refs_total, c->refs);
	ck_assert_uint_eq(k->unknown_frees, c->unknown);
	ck_assert_uint_eq(k->double_frees, c->doubles);
	ck_assert_uint_eq(process_of(getpid())->dialect, c->dialect);
	close(in);
	close(fd);
}
END_TEST

/* ---- read your writes ---- */

START_TEST(test_read_your_writes)
{
	int fd = client();

	for (uint64_t i = 1; i <= 10000; i++) {
		send_alloc(fd, i * 32);
		loop_drain(loop);
		ck_assert_uint_eq(live(), i);
	}
	close(fd);
}
END_TEST

START_TEST(test_read_your_writes_on_new_connections)
{
	for (uint64_t i = 1; i <= 1000; i++) {
		int fd = client();

		send_alloc(fd, i * 32);
		loop_drain(loop);
		ck_assert_uint_eq(live(), i);
		close(fd);
	}
	loop_drain(loop);
	ck_assert_uint_eq(info.clients, 0);
	ck_assert_uint_eq(registry_process_count(util->reg), 1);
	ck_assert_uint_eq(process_of(getpid())->connections, 0);
	ck_assert(!process_of(getpid())->ended);
}
END_TEST

static void never_rest(struct loop_source *s, uint32_t events)
{
}

/* More sources than the loop is told of at once are ready all the time, and the new client comes behind them. */
START_TEST(test_read_your_writes_behind_a_crowd)
{
	enum { N = 2500 };
	struct loop_source *crowd = calloc(N, sizeof(*crowd));
	int known, fd;

	ck_assert_ptr_nonnull(crowd);
	for (int i = 0; i < N; i++) {
		crowd[i] = (struct loop_source){ .fd = eventfd(1, EFD_CLOEXEC), .ingest = true, .ready = never_rest };
		ck_assert_int_eq(loop_add(loop, &crowd[i], EPOLLIN), 0);
	}
	known = client();
	for (uint64_t i = 1; i <= 10; i++) {
		send_alloc(known, 64 * i);
		fd = client();
		send_alloc(fd, 0x10000 + 64 * i);
		loop_drain(loop);
		ck_assert_uint_eq(live(), 2 * i);
		close(fd);
	}
	for (int i = 0; i < N; i++) {
		loop_remove(loop, &crowd[i]);
		close(crowd[i].fd);
	}
	free(crowd);
	close(known);
}
END_TEST

static void flood(int hear, int tell)
{
	struct stream s = { .len = 0 };
	int fd;

	await(hear);
	fd = connect_path(path);
	for (unsigned i = 0; i < 400; i++)
		put(&s, 72, message(i % 2 ? TTALLOC_MSG_FREE : TTALLOC_MSG_ALLOC, 2, 0x1000, 64));
	say(tell);
	while (send(fd, s.data, s.len, MSG_NOSIGNAL) > 0)
		;
}

START_TEST(test_flooding_senders_hold_up_nobody)
{
	struct child c[3];
	int fd = client();

	for (int i = 0; i < 3; i++) {
		c[i] = spawn(flood);
		child_go(&c[i]);
		child_done(&c[i]);
	}
	for (uint64_t i = 1; i <= 300; i++) {
		send_alloc(fd, i * 32);
		loop_drain(loop);
		ck_assert_uint_eq(registry_device(util->reg, 0)->type[BUFFER_DRAM].count, i);
	}
	for (int i = 0; i < 3; i++)
		child_end(&c[i], SIGKILL);
	loop_drain(loop);
	ck_assert_uint_eq(info.clients, 1);
	close(fd);
}
END_TEST

START_TEST(test_silent_and_half_sent_messages_hold_up_nobody)
{
	struct stream s = { .len = 0 };
	int silent = client(), half = client(), good = client();

	put(&s, 72, message(TTALLOC_MSG_ALLOC, 0, 0x5000, 10));
	send_bytes(half, s.data, 39);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 0);
	send_alloc(good, 0x1000);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 1);
	send_bytes(half, s.data + 39, 1);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 2);
	send_bytes(half, s.data + 40, 10);
	close(half);
	loop_drain(loop);
	ck_assert_uint_eq(info.malformed_senders, 1);
	ck_assert(error_log_says("malformed sender: pid"));
	ck_assert(error_log_says("the stream ended 50 bytes into a message"));
	ck_assert_uint_eq(info.clients, 2);
	close(silent);
	close(good);
	loop_drain(loop);
	ck_assert_uint_eq(info.clients, 0);
	ck_assert_uint_eq(info.malformed_senders, 1);
}
END_TEST

START_TEST(test_malformed_sender)
{
	struct stream s = { .len = 0 };
	int fd = client();

	make_stream(&s, 72);
	s.data[s.len++] = 99;
	send_stream(fd, &s);
	loop_drain(loop);
	expect_stream(1);
	ck_assert(is_closed(fd));
	ck_assert_uint_eq(info.malformed_senders, 1);
	ck_assert_uint_eq(info.clients, 0);
	ck_assert(error_log_says("): byte 21600: message type 99 does not exist"));
	ck_assert(!process_of(getpid())->ended);
	close(fd);
}
END_TEST

/* ---- answers ---- */

START_TEST(test_query_is_answered_in_order)
{
	unsigned dialect = dialects[_i];
	struct stream s = { .len = 0 };
	uint8_t reply[1000];
	int fd = client();

	put(&s, dialect, message(TTALLOC_MSG_ALLOC, 3, 0x1000, 100));
	put(&s, dialect, message(TTALLOC_MSG_QUERY, 3, 0, 0));
	put(&s, dialect, message(TTALLOC_MSG_ALLOC, 3, 0x2000, 11));
	put(&s, dialect, message(TTALLOC_MSG_QUERY, 3, 0, 0));
	put(&s, dialect, message(TTALLOC_MSG_FREE, 3, 0x1000, 0));
	send_stream(fd, &s);
	loop_drain(loop);
	ck_assert_uint_eq(receive(fd, reply, sizeof(reply)), 2 * dialect);
	ck_assert_uint_eq(reply[0], TTALLOC_MSG_RESPONSE);
	ck_assert_uint_eq(reply[4], 3);
	ck_assert_uint_eq(u64_at(reply + TTALLOC_REPLY_DRAM), 100);
	ck_assert_uint_eq(u64_at(reply + dialect + TTALLOC_REPLY_DRAM), 111);
	ck_assert_uint_eq(registry_counters(util->reg)->queries_total, 2);
	ck_assert_uint_eq(live(), 1);
	close(fd);
}
END_TEST

START_TEST(test_query_as_the_first_message)
{
	uint8_t reply[1000];
	int fd = client();

	send_message(fd, dialects[_i], message(TTALLOC_MSG_QUERY, 0, 0, 0));
	loop_drain(loop);
	ck_assert_uint_eq(receive(fd, reply, sizeof(reply)), dialects[_i]);
	ck_assert_uint_eq(process_of(getpid())->dialect, dialects[_i]);
	send_message(fd, dialects[_i], message(TTALLOC_MSG_QUERY, 0, 0, 0));
	loop_drain(loop);
	ck_assert_uint_eq(receive(fd, reply, sizeof(reply)), dialects[_i]);
	ck_assert_uint_eq(registry_counters(util->reg)->queries_total, 2);
	close(fd);
}
END_TEST

START_TEST(test_query_in_pieces)
{
	struct stream s = { .len = 0 };
	uint8_t reply[1000];
	int fd = client();

	put(&s, 144, message(TTALLOC_MSG_QUERY, 0, 0, 0));
	send_bytes(fd, s.data, 72);
	loop_drain(loop);
	ck_assert_uint_eq(receive(fd, reply, sizeof(reply)), 72);
	send_bytes(fd, s.data + 72, 72);
	loop_drain(loop);
	ck_assert_uint_eq(receive(fd, reply, sizeof(reply)), 72);
	ck_assert_uint_eq(registry_counters(util->reg)->queries_total, 1);
	ck_assert_uint_eq(registry_counters(util->reg)->events_total, 1);
	close(fd);
}
END_TEST

START_TEST(test_device_info)
{
	uint8_t reply[1000];
	int fd = client();

	registry_device_declare(util->reg, 1, 12884901888, 1499136, TTALLOC_WIRE_ARCH_WORMHOLE_B0);
	send_message(fd, 112, message(TTALLOC_MSG_DEVICE_INFO_QUERY, -1, 0, 0));
	loop_drain(loop);
	ck_assert_uint_eq(receive(fd, reply, sizeof(reply)), 112);
	ck_assert_uint_eq(reply[0], TTALLOC_MSG_DEVICE_INFO_RESPONSE);
	ck_assert_uint_eq(reply[108], 2);
	send_message(fd, 112, message(TTALLOC_MSG_DEVICE_INFO_QUERY, 1, 0, 0));
	loop_drain(loop);
	ck_assert_uint_eq(receive(fd, reply, sizeof(reply)), 112);
	ck_assert_uint_eq(u64_at(reply + TTALLOC_REPLY_INFO_112), 12884901888);
	close(fd);
}
END_TEST

START_TEST(test_question_of_a_client_that_sends_no_more)
{
	struct stream s = { .len = 0 };
	uint8_t reply[1000];
	int fd = client();

	put(&s, 112, message(TTALLOC_MSG_QUERY, 0, 0, 0));
	send_stream(fd, &s);
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	loop_drain(loop);
	ck_assert_uint_eq(receive(fd, reply, sizeof(reply)), 112);
	ck_assert(is_closed(fd));
	ck_assert_uint_eq(info.clients, 0);
	ck_assert_uint_eq(info.malformed_senders, 0);
	close(fd);
}
END_TEST

/* Sends `n` questions without reading an answer. */
static void ask(int fd, unsigned n)
{
	struct stream s = { .len = 0 };

	while (n--) {
		put(&s, 144, message(TTALLOC_MSG_QUERY, 0, 0, 0));
		if (s.len + 144 <= sizeof(s.data) && n)
			continue;
		if (send(fd, s.data, s.len, MSG_NOSIGNAL) < 0)
			return;
		s.len = 0;
		loop_drain(loop);
	}
}

static size_t count_answers(int fd)
{
	uint8_t reply[14400];
	size_t len = 0, n;

	do {
		loop_drain(loop);
		n = receive(fd, reply, sizeof(reply));
		len += n;
	} while (n);
	ck_assert_uint_eq(len % 144, 0);
	return len / 144;
}

START_TEST(test_answers_wait_for_a_slow_reader)
{
	int fd = client(), other = client();

	ask(fd, 500);
	send_alloc(other, 0x1000);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 1);
	ck_assert_uint_eq(info.clients, 2);
	close(fd);
	close(other);
}
END_TEST

START_TEST(test_slow_reader_gets_all_answers)
{
	int fd = client();

	ask(fd, 500);
	send_message(fd, 144, message(TTALLOC_MSG_ALLOC, 0, 0x1000, 10));
	loop_drain(loop);
	ck_assert_uint_eq(live(), 1);
	ck_assert_uint_eq(count_answers(fd), 500);
	ask(fd, 1);
	ck_assert_uint_eq(count_answers(fd), 1);
	ck_assert_uint_eq(info.clients, 1);
	close(fd);
}
END_TEST

START_TEST(test_slow_reader_that_sends_no_more_gets_all_answers)
{
	int fd = client();

	ask(fd, 500);
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	loop_drain(loop);
	ck_assert_uint_eq(info.clients, 1);
	ck_assert_uint_eq(count_answers(fd), 500);
	ck_assert(is_closed(fd));
	ck_assert_uint_eq(info.clients, 0);
	close(fd);
}
END_TEST

/* Far more goes through the queue than it may hold at once. */
START_TEST(test_slow_reader_that_never_catches_up)
{
	static uint8_t replies[14400];
	size_t len = 0;
	int fd = client();

	ask(fd, 500);
	for (int round = 0; round < 40; round++) {
		len += receive(fd, replies, sizeof(replies));
		ask(fd, 100);
	}
	ck_assert_uint_eq(len, 40 * sizeof(replies));
	ck_assert_uint_eq(count_answers(fd), 500);
	ck_assert_uint_eq(info.clients, 1);
	close(fd);
}
END_TEST

START_TEST(test_who_asks_and_never_reads_is_disconnected)
{
	int fd = client(), other = client();

	ask(fd, 5000);
	loop_drain(loop);
	ck_assert_uint_eq(info.clients, 1);
	ck_assert(error_log_says("): asks without reading the answers"));
	send_alloc(other, 0x1000);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 1);
	close(fd);
	close(other);
}
END_TEST

START_TEST(test_asker_is_gone)
{
	int fd = client();

	send_message(fd, 72, message(TTALLOC_MSG_QUERY, 0, 0, 0));
	send_message(fd, 72, message(TTALLOC_MSG_ALLOC, 0, 0x1000, 10));
	close(fd);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 1);
	loop_drain(loop);
	ck_assert_uint_eq(info.clients, 0);
	ck_assert_uint_eq(info.malformed_senders, 0);
}
END_TEST

START_TEST(test_dump_sees_what_was_before_it)
{
	struct stream s = { .len = 0 };
	int fd = client();

	put(&s, 144, message(TTALLOC_MSG_ALLOC, 0, 0x1000, 100));
	put(&s, 144, message(TTALLOC_MSG_DUMP, 0, 0, 0));
	put(&s, 144, message(TTALLOC_MSG_ALLOC, 0, 0x2000, 100));
	put(&s, 144, message(TTALLOC_MSG_DUMP_KERNELS, 0, 0, 0));
	put(&s, 144, message(TTALLOC_MSG_ALLOC, 0, 0x3000, 100));
	send_stream(fd, &s);
	loop_drain(loop);
	ck_assert_uint_eq(dumps, 2);
	ck_assert_uint_eq(dumped[0], 1);
	ck_assert_uint_eq(dumped[1], 2);
	ck_assert_uint_eq(live(), 3);
	close(fd);
}
END_TEST

/* ---- many ---- */

START_TEST(test_thousands_of_connections)
{
	enum { N = 3000 };
	int *fd = calloc(N, sizeof(*fd));

	ck_assert_ptr_nonnull(fd);
	for (int i = 0; i < N; i++) {
		fd[i] = client();
		send_alloc(fd[i], 64 * (uint64_t)(i + 1));
	}
	loop_drain(loop);
	ck_assert_uint_eq(info.clients, N);
	ck_assert_uint_eq(live(), N);
	ck_assert_uint_eq(process_of(getpid())->connections, N);
	for (int i = 0; i < N; i++)
		send_alloc(fd[i], 0x1000000 + 64 * (uint64_t)i);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 2 * N);
	for (int i = 0; i < N; i++)
		close(fd[i]);
	loop_drain(loop);
	ck_assert_uint_eq(info.clients, 0);
	ck_assert_uint_eq(process_of(getpid())->connections, 0);
	ck_assert_uint_eq(registry_suspects(util->reg), 0);
	free(fd);
}
END_TEST

START_TEST(test_max_clients)
{
	int a = client(), b = client(), c = client(), d;

	info.max_clients = 2;
	loop_drain(loop);
	ck_assert_uint_eq(info.clients, 2);
	ck_assert_uint_eq(info.refused_clients, 1);
	ck_assert(is_closed(c));
	ck_assert(error_log_says("max_clients is reached"));
	send_alloc(a, 0x1000);
	send_alloc(b, 0x2000);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 2);
	close(a);
	loop_drain(loop);
	d = client();
	send_alloc(d, 0x3000);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 3);
	close(b);
	close(c);
	close(d);
}
END_TEST

/* Leaves `n` descriptors that can be opened. */
static void limit_descriptors(struct rlimit *before, int n)
{
	struct rlimit tight;
	int next = dup(null_fd);

	close(next);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, before), 0);
	tight = *before;
	tight.rlim_cur = (rlim_t)(next + n);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &tight), 0);
}

START_TEST(test_no_descriptor_left)
{
	struct rlimit limit;
	int a, b;

	if (is_emulated())
		return;
	a = client();
	loop_drain(loop);
	ck_assert_uint_eq(info.clients, 1);
	b = client();
	limit_descriptors(&limit, 0);
	for (int i = 0; i < 3; i++) {
		send_alloc(a, 64 * (uint64_t)(i + 1));
		loop_drain(loop);
		ck_assert_uint_eq(live(), (uint64_t)i + 1);
	}
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_uint_eq(info.refused_clients, 1);
	ck_assert(is_closed(b));
	ck_assert(error_log_says("Too many open files"));
	close(b);
	b = client();
	send_alloc(b, 0x10000);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 4);
	close(a);
	close(b);
}
END_TEST

/* One descriptor is left: the client gets it, but its process cannot be watched. */
START_TEST(test_no_descriptor_left_for_the_process)
{
	struct rlimit limit;
	int a;

	if (is_emulated())
		return;
	a = client();
	limit_descriptors(&limit, 1);
	loop_drain(loop);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_uint_eq(info.clients, 0);
	ck_assert_uint_eq(info.refused_clients, 1);
	ck_assert_uint_eq(registry_process_count(util->reg), 0);
	ck_assert(is_closed(a));
	close(a);
}
END_TEST

static bool is_served(void)
{
	return live() > 0;
}

/* Whatever is wrong with accepting, the loop does not spin on it, and goes on after a while. */
START_TEST(test_accepting_pauses)
{
	int fd = client();

	send_alloc(fd, 0x1000);
	accept_error = ENOBUFS;
	loop_drain(loop);
	loop_drain(loop);
	ck_assert_uint_eq(info.clients, 0);
	run_until(is_served);
	ck_assert_uint_eq(info.clients, 1);
	accept_error = ECONNABORTED;
	close(client());
	loop_drain(loop);
	ck_assert_int_eq(accept_error, 0);
	close(fd);
}
END_TEST

static void connect_and_wait(int hear, int tell)
{
	int fd = connect_path(path);

	if (fd < 0)
		_exit(1);
	say(tell);
	await(hear);
}

/* The registry of the tests has 1000 slots. */
START_TEST(test_no_process_slot_left)
{
	struct child c;

	for (int i = 0; i < 1000; i++)
		util_process(util, 1000000 + i, 1, "other");
	c = spawn(connect_and_wait);
	child_done(&c);
	loop_drain(loop);
	ck_assert_uint_eq(info.clients, 0);
	ck_assert_uint_eq(info.refused_clients, 1);
	ck_assert(error_log_says("there is no room for another process"));
	child_end(&c, 0);
}
END_TEST

/* ---- who it is, and when it ends ---- */

START_TEST(test_identity)
{
	uint64_t before = loop_now();
	const struct process *p;
	char exe[512] = { 0 };
	int fd = client();

	loop_drain(loop);
	p = process_of(getpid());
	ck_assert_int_eq(p->pid, getpid());
	ck_assert_uint_eq(p->uid, geteuid());
	ck_assert_uint_eq(p->gid, getegid());
	ck_assert_str_eq(p->comm, comm);
	ck_assert_int_gt(readlink("/proc/self/exe", exe, sizeof(exe) - 1), 0);
	if (!is_emulated())
		ck_assert_str_eq(p->exe, exe);
	ck_assert_uint_gt(p->start_ticks, 0);
	ck_assert_uint_gt(p->started, before - UINT64_C(3600) * 1000000000);
	ck_assert_uint_le(p->started, before);
	ck_assert_uint_eq(p->connections, 1);
	ck_assert_uint_eq(p->dialect, 0);
	ck_assert_int_eq(p->reported_pid, 0);
	ck_assert_int_eq(p->ancestors[0], getppid());
	ck_assert(p->ancestors[0] == 1 || p->ancestors[1] > 0);
	close(fd);
}
END_TEST

static void send_50_and_wait(int hear, int tell)
{
	int fd = connect_path(path);

	for (uint64_t i = 1; i <= 50; i++)
		send_alloc(fd, 64 * i);
	say(tell);
	await(hear);
}

static void send_under_a_strange_name(int hear, int tell)
{
	int fd = connect_path(path);

	if (prctl(PR_SET_NAME, "a) R (b\n%") < 0)
		_exit(1);
	send_alloc(fd, 0x1000);
	say(tell);
	await(hear);
}

START_TEST(test_identity_of_a_strange_name)
{
	struct child c = spawn(send_under_a_strange_name);

	child_done(&c);
	loop_drain(loop);
	ck_assert_str_eq(process_of(c.pid)->comm, "a) R (b\n%");
	ck_assert_uint_gt(process_of(c.pid)->start_ticks, 0);
	child_end(&c, SIGKILL);
}
END_TEST

START_TEST(test_killed_with_everything_pending)
{
	struct child c = spawn(send_50_and_wait);

	child_done(&c);
	child_end(&c, SIGKILL);
	/* Reaped before anybody has looked: its pid could be somebody else's now. */
	loop_drain(loop);
	ck_assert_uint_eq(live(), 50);
	ck_assert(process_of(c.pid)->ended);
	ck_assert_uint_eq(registry_suspects(util->reg), 50);
	ck_assert_uint_eq(info.clients, 0);
}
END_TEST

START_TEST(test_killed_as_a_zombie)
{
	struct child c = spawn(send_50_and_wait);
	siginfo_t si;

	child_done(&c);
	ck_assert_int_eq(kill(c.pid, SIGKILL), 0);
	ck_assert_int_eq(waitid(P_PID, (id_t)c.pid, &si, WEXITED | WNOWAIT), 0);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 50);
	ck_assert(process_of(c.pid)->ended);
	ck_assert_str_eq(process_of(c.pid)->comm, comm);
	ck_assert_uint_gt(process_of(c.pid)->start_ticks, 0);
	ck_assert_uint_eq(registry_suspects(util->reg), 50);
	child_end(&c, 0);
}
END_TEST

static void send_on_two_connections(int hear, int tell)
{
	int first = connect_path(path), second;

	send_alloc(first, 0x1000);
	say(tell);
	await(hear);
	second = connect_path(path);
	send_alloc(second, 0x2000);
	say(tell);
	await(hear);
}

/* A connection is seen only after the death of its process, which was known by another one. */
START_TEST(test_killed_with_another_connection_pending)
{
	for (int reaped = 0; reaped < 2; reaped++) {
		struct child c = spawn(send_on_two_connections);
		siginfo_t si;

		child_done(&c);
		loop_drain(loop);
		child_go(&c);
		child_done(&c);
		ck_assert_int_eq(kill(c.pid, SIGKILL), 0);
		ck_assert_int_eq(waitid(P_PID, (id_t)c.pid, &si, WEXITED | (reaped ? 0 : WNOWAIT)), 0);
		loop_drain(loop);
		ck_assert_uint_eq(registry_process_count(util->reg), 1U + (unsigned)reaped);
		ck_assert(process_of(c.pid)->ended);
		ck_assert_uint_eq(process_of(c.pid)->total.count, 2);
		ck_assert_uint_eq(process_of(c.pid)->connections, 0);
		ck_assert_str_eq(process_of(c.pid)->comm, comm);
		if (!reaped)
			ck_assert_int_eq(waitpid(c.pid, NULL, 0), c.pid);
		close(c.tell);
		close(c.hear);
	}
}
END_TEST

/* Nothing is left of it but two connections: they are one process. */
START_TEST(test_killed_with_two_connections_pending)
{
	struct child c = spawn(send_on_two_connections);

	child_done(&c);
	child_go(&c);
	child_done(&c);
	child_end(&c, SIGKILL);
	loop_drain(loop);
	ck_assert_uint_eq(registry_process_count(util->reg), 1);
	ck_assert(process_of(c.pid)->ended);
	ck_assert_uint_eq(process_of(c.pid)->total.count, 2);
	ck_assert_uint_eq(registry_suspects(util->reg), 2);
}
END_TEST

static void connect_as_another_user(int hear, int tell)
{
	if (setresuid(65534, 65534, 65534) < 0)
		_exit(1);
	connect_and_wait(hear, tell);
}

/* The pid of a sender that is gone belongs to another process by the time it is accepted. */
START_TEST(test_pid_is_used_again_before_the_sender_was_seen)
{
	const struct process *p;
	struct child c, d;

	if (is_emulated())
		return;
	c = spawn(send_50_and_wait);
	child_done(&c);
	child_end(&c, SIGKILL);
	/* Before SO_PEERPIDFD it takes another user for us to notice. */
	d = spawn_as(c.pid, old_kernel ? connect_as_another_user : connect_and_wait);
	if (d.pid < 0)
		return;
	child_done(&d);
	loop_drain(loop);
	p = registry_process(util->reg, 0);
	ck_assert_int_eq(p->pid, c.pid);
	ck_assert(p->ended);
	ck_assert_str_eq(p->comm, "");
	ck_assert_uint_eq(registry_suspects(util->reg), 50);
	ck_assert_uint_eq(registry_process_count(util->reg), 2);
	ck_assert(!process_of(c.pid)->ended);
	ck_assert_str_eq(process_of(c.pid)->comm, comm);
	ck_assert_uint_eq(process_of(c.pid)->total.count, 0);
	child_end(&d, SIGKILL);
}
END_TEST

/* The death of a known process and the first connection of another one with its pid come at once. */
START_TEST(test_pid_is_used_again_before_the_death_was_seen)
{
	uint64_t before = loop_monotonic();
	struct child c, d;

	if (is_emulated())
		return;
	c = spawn(send_50_and_wait);
	child_done(&c);
	loop_drain(loop);
	child_end(&c, SIGKILL);
	/* The start time, which tells them apart, counts in steps of 10 ms. */
	while (loop_monotonic() - before < 20000000)
		;
	d = spawn_as(c.pid, send_50_and_wait);
	if (d.pid < 0)
		return;
	child_done(&d);
	loop_drain(loop);
	ck_assert_uint_eq(registry_process_count(util->reg), 2);
	ck_assert_uint_eq(registry_suspects(util->reg), 50);
	ck_assert(!process_of(c.pid)->ended);
	ck_assert_uint_eq(process_of(c.pid)->total.count, 50);
	child_end(&d, SIGKILL);
	loop_drain(loop);
	ck_assert_uint_eq(registry_suspects(util->reg), 100);
}
END_TEST

START_TEST(test_killed_while_known)
{
	for (int i = 1; i <= 20; i++) {
		struct child c = spawn(send_50_and_wait);

		if (i % 2)
			loop_drain(loop);
		child_done(&c);
		if (i % 3)
			loop_drain(loop);
		child_end(&c, SIGKILL);
		ck_assert_uint_le(intake_scan(intake), 1);
		ck_assert_uint_eq(registry_suspects(util->reg), 50U * (unsigned)i);
	}
	ck_assert_uint_eq(live(), 1000);
	ck_assert_uint_eq(registry_process_count(util->reg), 20);
}
END_TEST

START_TEST(test_scan_counts_deaths)
{
	struct child c[3];

	for (int i = 0; i < 3; i++) {
		c[i] = spawn(send_50_and_wait);
		child_done(&c[i]);
	}
	ck_assert_uint_eq(intake_scan(intake), 0);
	ck_assert_uint_eq(live(), 150);
	child_end(&c[0], SIGKILL);
	child_end(&c[2], SIGKILL);
	ck_assert_uint_eq(intake_scan(intake), 2);
	ck_assert_uint_eq(intake_scan(intake), 0);
	ck_assert_uint_eq(registry_suspects(util->reg), 100);
	child_end(&c[1], 0);
}
END_TEST

static void come_and_go(int hear, int tell)
{
	for (uint64_t i = 1; i <= 5; i++) {
		int fd = connect_path(path);

		send_alloc(fd, 64 * i);
		close(fd);
		say(tell);
		await(hear);
	}
}

START_TEST(test_closing_the_connection_is_not_death)
{
	struct child c = spawn(come_and_go);

	for (unsigned i = 1; i <= 5; i++) {
		child_done(&c);
		loop_drain(loop);
		loop_drain(loop);
		ck_assert_uint_eq(live(), i);
		ck_assert_uint_eq(info.clients, 0);
		ck_assert_uint_eq(registry_process_count(util->reg), 1);
		ck_assert(!process_of(c.pid)->ended);
		ck_assert_uint_eq(registry_suspects(util->reg), 0);
		if (i < 5)
			child_go(&c);
	}
	child_end(&c, 0);
	loop_drain(loop);
	ck_assert(process_of(c.pid)->ended);
	ck_assert_uint_eq(registry_suspects(util->reg), 5);
}
END_TEST

/* ---- pids that are reported ---- */

static int inherited;  /* a connection that children use, too */

static void send_over_inherited(int hear, int tell)
{
	await(hear);
	send_alloc(inherited, 64 * (uint64_t)getpid());
	say(tell);
	await(hear);
}

START_TEST(test_forked_child_over_its_parents_connection)
{
	const struct process *child;
	struct child c;

	if (is_emulated())
		return;
	inherited = client();
	send_alloc(inherited, 64);
	c = spawn(send_over_inherited);
	child_go(&c);
	child_done(&c);
	loop_drain(loop);
	ck_assert_uint_eq(registry_process_count(util->reg), 2);
	ck_assert_uint_eq(process_of(getpid())->total.count, 1);
	child = process_of(c.pid);
	ck_assert_uint_eq(child->total.count, 1);
	ck_assert_uint_eq(child->connections, 0);
	ck_assert_str_eq(child->comm, comm);
	ck_assert_int_eq(process_of(getpid())->reported_pid, 0);
	child_end(&c, SIGKILL);
	loop_drain(loop);
	ck_assert(process_of(c.pid)->ended);
	ck_assert(!process_of(getpid())->ended);
	ck_assert_uint_eq(registry_suspects(util->reg), 1);
	/* What still comes under the dead child's name is booked on the sender. */
	send_alloc_as(inherited, c.pid, 0x10);
	loop_drain(loop);
	ck_assert_uint_eq(process_of(getpid())->total.count, 2);
	ck_assert_int_eq(process_of(getpid())->reported_pid, c.pid);
	ck_assert_uint_eq(registry_suspects(util->reg), 1);
	close(inherited);
}
END_TEST

START_TEST(test_child_dies_with_events_pending_on_its_parents_connection)
{
	struct child c;

	if (is_emulated())
		return;
	inherited = client();
	c = spawn(send_over_inherited);
	child_go(&c);
	child_done(&c);
	loop_drain(loop);
	send_alloc_as(inherited, c.pid, 0x10);
	send_alloc_as(inherited, c.pid, 0x20);
	child_end(&c, SIGKILL);
	loop_drain(loop);
	ck_assert_uint_eq(process_of(c.pid)->total.count, 3);
	ck_assert_uint_eq(registry_suspects(util->reg), 3);
	close(inherited);
}
END_TEST

/* More children than a connection remembers owners, all in turn; none of them has a connection of its own. */
START_TEST(test_many_children_over_one_connection)
{
	struct child c[20];

	if (is_emulated())
		return;
	inherited = client();
	for (int i = 0; i < 20; i++)
		c[i] = spawn(send_over_inherited);
	for (int round = 1; round <= 50; round++) {
		for (int i = 0; i < 20; i++)
			send_alloc_as(inherited, c[i].pid, 64 * (uint64_t)(round * 100 + i));
		loop_drain(loop);
	}
	for (int i = 0; i < 20; i++) {
		ck_assert_uint_eq(process_of(c[i].pid)->total.count, 50);
		child_end(&c[i], SIGKILL);
	}
	ck_assert_uint_eq(process_of(getpid())->total.count, 0);
	loop_drain(loop);
	ck_assert_uint_eq(registry_suspects(util->reg), 1000);
	close(inherited);
}
END_TEST

/* A zombie does nothing any more, whoever says so. */
START_TEST(test_reported_pid_of_a_zombie)
{
	struct child c = spawn(send_over_inherited);
	int fd = client();
	siginfo_t si;

	ck_assert_int_eq(kill(c.pid, SIGKILL), 0);
	ck_assert_int_eq(waitid(P_PID, (id_t)c.pid, &si, WEXITED | WNOWAIT), 0);
	send_alloc_as(fd, c.pid, 0x1000);
	loop_drain(loop);
	ck_assert_uint_eq(registry_process_count(util->reg), 1);
	ck_assert_uint_eq(process_of(getpid())->total.count, 1);
	child_end(&c, 0);
	close(fd);
}
END_TEST

/* Who makes up pids is believed nothing, and does not keep the server looking for ever. */
START_TEST(test_made_up_pids)
{
	struct child c;
	int fd;

	if (is_emulated())
		return;
	c = spawn(send_over_inherited);
	fd = client();
	for (int i = 0; i < 256; i++) {
		send_alloc_as(fd, 0x40000000 + i, 64 * (uint64_t)(i + 1));
		loop_drain(loop);
	}
	send_alloc_as(fd, 0, 0x20);
	send_alloc_as(fd, -1, 0x30);
	loop_drain(loop);
	ck_assert_uint_eq(process_of(getpid())->total.count, 258);
	ck_assert_int_eq(process_of(getpid())->reported_pid, -1);
	ck_assert_uint_eq(registry_process_count(util->reg), 1);
	/* That was all it may make us look up; with more events it earns more. */
	send_alloc_as(fd, c.pid, 0x100000);
	loop_drain(loop);
	ck_assert_uint_eq(registry_process_count(util->reg), 1);
	for (int i = 0; i < 1024; i++) {
		send_alloc(fd, 0x200000 + 64 * (uint64_t)i);
		loop_drain(loop);
	}
	send_alloc_as(fd, c.pid, 0x100040);
	loop_drain(loop);
	ck_assert_uint_eq(registry_process_count(util->reg), 2);
	ck_assert_uint_eq(process_of(c.pid)->total.count, 1);
	close(fd);
	child_end(&c, SIGKILL);
}
END_TEST

static void send_over_inherited_after_parent(int hear, int tell)
{
	pid_t pid = fork();

	if (pid == 0) {
		await(hear);
		send_alloc(inherited, 0x2000);
		say(tell);
		await(hear);
		_exit(0);
	}
	send_alloc(inherited, 0x1000);
	say(tell);
	pause();
}

static void connect_and_fork(int hear, int tell)
{
	inherited = connect_path(path);
	send_over_inherited_after_parent(hear, tell);
}

START_TEST(test_child_goes_on_after_the_death_of_who_connected)
{
	struct child c;
	uint32_t slot;
	pid_t pid;

	if (is_emulated())
		return;
	c = spawn(connect_and_fork);
	ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);  /* the child's child becomes ours */
	child_done(&c);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 1);
	ck_assert_int_eq(kill(c.pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(c.pid, NULL, 0), c.pid);
	loop_drain(loop);
	ck_assert(process_of(c.pid)->ended);
	ck_assert_uint_eq(process_of(c.pid)->connections, 1);
	ck_assert_uint_eq(info.clients, 1);
	child_go(&c);
	child_done(&c);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 2);
	ck_assert_uint_eq(registry_suspects(util->reg), 1);
	ck_assert_uint_eq(registry_process_count(util->reg), 2);
	for (slot = registry_process_next(util->reg, 0); registry_process(util->reg, slot)->ended;)
		slot = registry_process_next(util->reg, slot + 1);
	ck_assert_uint_eq(registry_process(util->reg, slot)->total.count, 1);
	child_go(&c);
	pid = registry_process(util->reg, slot)->pid;
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	close(c.tell);
	close(c.hear);
	loop_drain(loop);
	ck_assert_uint_eq(registry_suspects(util->reg), 2);
	ck_assert_uint_eq(info.clients, 0);
}
END_TEST

/* ---- other users, other namespaces ---- */

static void other_user_reports_parent(int hear, int tell)
{
	int fd;

	if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
		_exit(1);
	fd = connect_path(path);
	send_alloc_as(fd, getppid(), 0x1000);
	send_alloc(fd, 0x2000);
	say(tell);
	await(hear);
}

START_TEST(test_nobody_acts_for_another_user)
{
	struct child c;
	int fd;

	if (geteuid() != 0)
		return;
	c = spawn(other_user_reports_parent);
	child_done(&c);
	fd = client();
	send_alloc_as(fd, c.pid, 0x3000);
	loop_drain(loop);
	ck_assert_uint_eq(process_of(c.pid)->uid, 65534);
	ck_assert_uint_eq(process_of(c.pid)->gid, 65534);
	ck_assert_uint_eq(process_of(c.pid)->total.count, 2);
	ck_assert_int_eq(process_of(c.pid)->reported_pid, getpid());
	ck_assert_uint_eq(process_of(getpid())->total.count, 1);
	ck_assert_int_eq(process_of(getpid())->reported_pid, c.pid);
	close(fd);
	child_end(&c, SIGKILL);
}
END_TEST

static pid_t watched;

static void send_from_namespace(int hear, int tell)
{
	pid_t pid;

	if (unshare(CLONE_NEWPID) < 0)
		_exit(1);
	pid = fork();
	if (pid == 0) {
		int fd = connect_path(path);

		send_alloc(fd, 0x1000);                 /* getpid() is 1 */
		send_alloc_as(fd, getppid(), 0x2000);   /* 0 */
		send_alloc_as(fd, 2, 0x3000);           /* nothing that we could know */
		send_alloc_as(fd, watched, 0x4000);     /* as a number, that is the pid of a process we know */
		say(tell);
		await(hear);
		_exit(0);
	}
	if (waitpid(pid, NULL, 0) != pid)
		_exit(1);
	await(hear);
}

START_TEST(test_client_in_a_pid_namespace)
{
	uint32_t slot;
	const struct process *p;
	struct child c;
	int fd;

	if (geteuid() != 0)
		return;
	fd = client();
	loop_drain(loop);
	watched = getpid();
	c = spawn(send_from_namespace);
	child_done(&c);
	loop_drain(loop);
	ck_assert_uint_eq(registry_process_count(util->reg), 2);
	for (slot = registry_process_next(util->reg, 0); registry_process(util->reg, slot)->pid == getpid();)
		slot = registry_process_next(util->reg, slot + 1);
	p = registry_process(util->reg, slot);
	ck_assert_int_gt(p->pid, c.pid);
	ck_assert_int_eq(p->reported_pid, getpid());
	ck_assert_uint_eq(p->total.count, 4);
	ck_assert_uint_eq(process_of(getpid())->total.count, 0);
	child_go(&c);
	child_end(&c, 0);
	loop_drain(loop);
	ck_assert(registry_process(util->reg, slot)->ended);
	close(fd);
}
END_TEST

/* The server's side of the next test, in a namespace that does not see the clients. */
static void serve_strangers(int hear, int tell)
{
	const struct process *p, *q;

	server_stop();
	server_start();
	listen_here(intake);
	say(tell);
	await(hear);
	loop_drain(loop);
	p = registry_process(util->reg, 0);
	q = registry_process(util->reg, 1);
	ck_assert_uint_eq(registry_process_count(util->reg), 2);
	ck_assert_int_eq(p->pid, 0);
	ck_assert_int_eq(q->pid, 0);
	ck_assert_int_ne(p->reported_pid, 0);
	ck_assert_uint_eq(p->total.count, 1);
	ck_assert_uint_eq(q->total.count, 1);
	ck_assert(!p->ended);
	say(tell);
	await(hear);
	loop_drain(loop);
	ck_assert(p->ended);
	ck_assert(!q->ended);
	ck_assert_uint_eq(registry_suspects(util->reg), 1);
	server_stop();
	say(tell);
}

static void serve_in_namespace(int hear, int tell)
{
	pid_t pid;

	if (unshare(CLONE_NEWPID) < 0)
		_exit(1);
	pid = fork();
	if (pid == 0) {
		serve_strangers(hear, tell);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

START_TEST(test_client_out_of_our_pid_namespace)
{
	struct child c;
	int a, b;

	if (geteuid() != 0)
		return;
	intake_free(intake);
	intake = new_intake();
	c = spawn(serve_in_namespace);
	child_done(&c);
	a = client();
	b = client();
	send_alloc(a, 0x1000);
	send_alloc(b, 0x1000);
	child_go(&c);
	child_done(&c);
	close(a);
	child_go(&c);
	child_done(&c);
	close(b);
	child_end(&c, 0);
}
END_TEST

/* ---- the path ---- */

static void expect_refusal(const char *at, int error, const char *words)
{
	struct textbuf why = TEXTBUF_INIT;

	ck_assert_int_eq(intake_listen(intake, at, &why), error);
	textbuf_putc(&why, '\0');
	ck_assert_msg(strstr(why.data, words) != NULL, "\"%s\" does not say \"%s\"", why.data, words);
	textbuf_deinit(&why);
}

static void other_path(char *to, const char *name)
{
	snprintf(to, 96, "%s/%.20s", dir, name);
}

static int bind_at(const char *at, int type)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, at);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

START_TEST(test_mode_of_the_socket)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert(S_ISSOCK(st.st_mode));
	ck_assert_uint_eq(st.st_mode & 07777, 0666);
}
END_TEST

START_TEST(test_stale_socket_is_replaced)
{
	char at[96];
	int fd;

	other_path(at, "stale");
	close(bind_at(at, SOCK_STREAM));
	ck_assert_int_eq(connect_path(at), -1);
	ck_assert_int_eq(intake_listen(intake, at, &(struct textbuf)TEXTBUF_INIT), 0);
	fd = connect_path(at);
	send_alloc(fd, 0x1000);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 1);
	close(fd);
}
END_TEST

START_TEST(test_living_server_is_left_alone)
{
	char words[64];
	int fd;

	snprintf(words, sizeof(words), "%.30s: a server is listening", path);
	expect_refusal(path, -EADDRINUSE, words);
	snprintf(words, sizeof(words), "pid %d", getpid());
	expect_refusal(path, -EADDRINUSE, words);
	fd = client();
	send_alloc(fd, 0x1000);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 1);
	close(fd);
}
END_TEST

START_TEST(test_living_server_that_is_stuck)
{
	int queue[8], n = 0, server;
	char at[96];

	other_path(at, "stuck");
	server = bind_at(at, SOCK_STREAM);
	ck_assert_int_eq(listen(server, 0), 0);
	for (int r = 0; r == 0 && n < 8; n++) {
		struct sockaddr_un address = { .sun_family = AF_UNIX };

		strcpy(address.sun_path, at);
		queue[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		r = connect(queue[n], (struct sockaddr *)&address, sizeof(address));
	}
	ck_assert_int_lt(n, 8);
	expect_refusal(at, -EADDRINUSE, "a server is listening");
	while (n--)
		close(queue[n]);
	close(server);
	ck_assert_int_eq(unlink(at), 0);
}
END_TEST

START_TEST(test_what_is_not_a_socket_is_left_alone)
{
	char at[96], target[96];
	struct stat st;
	int fd;

	other_path(at, "file");
	other_path(target, "target");
	fd = open(at, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	ck_assert_int_eq(write(fd, "text", 4), 4);
	close(fd);
	expect_refusal(at, -EEXIST, "exists and is not a socket");
	ck_assert_int_eq(stat(at, &st), 0);
	ck_assert_int_eq(st.st_size, 4);
	ck_assert_int_eq(unlink(at), 0);
	ck_assert_int_eq(symlink(target, at), 0);
	expect_refusal(at, -EEXIST, "exists and is not a socket");
	ck_assert_int_eq(unlink(at), 0);
	ck_assert_int_eq(access(target, F_OK), -1);
	fd = bind_at(at, SOCK_DGRAM);
	expect_refusal(at, -EEXIST, "is a living socket of another kind");
	close(fd);
	ck_assert_int_eq(unlink(at), 0);
}
END_TEST

START_TEST(test_stale_socket_of_another_user)
{
	char at[96];

	if (geteuid() != 0)
		return;
	other_path(at, "stale");
	close(bind_at(at, SOCK_STREAM));
	ck_assert_int_eq(chmod(at, 0666), 0);
	ck_assert_int_eq(chmod(dir, 01777), 0);
	ck_assert_int_eq(seteuid(65534), 0);
	expect_refusal(at, -EPERM, "cannot remove what a server that is gone has left");
	ck_assert_int_eq(seteuid(0), 0);
	ck_assert_int_eq(unlink(at), 0);
}
END_TEST

START_TEST(test_locked_directory)
{
	char at[96];
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	other_path(at, "other");
	ck_assert_int_eq(flock(fd, LOCK_EX), 0);
	expect_refusal(at, -EBUSY, "is locked by another process");
	close(fd);
	ck_assert_int_eq(intake_listen(intake, at, &(struct textbuf)TEXTBUF_INIT), 0);
}
END_TEST

START_TEST(test_impossible_paths)
{
	char at[300];

	memset(at, 'x', sizeof(at));
	at[0] = '/';
	at[108] = '\0';
	expect_refusal(at, -ENAMETOOLONG, "longer than the 107 bytes");
	expect_refusal("/nonexistent/directory/sock", -ENOENT, "cannot open the directory /nonexistent/directory");
	expect_refusal("/proc/sock", -ENOENT, "/proc/sock");
}
END_TEST

START_TEST(test_file_is_gone_at_the_end)
{
	intake_free(intake);
	ck_assert_int_eq(access(path, F_OK), -1);
	intake = new_intake();
	listen_here(intake);
}
END_TEST

START_TEST(test_file_of_somebody_else_is_left_alone_at_the_end)
{
	ck_assert_int_eq(unlink(path), 0);
	close(bind_at(path, SOCK_STREAM));
	intake_free(intake);
	ck_assert_int_eq(access(path, F_OK), 0);
	ck_assert_int_eq(unlink(path), 0);
	intake = new_intake();
}
END_TEST

START_TEST(test_directories_below_run)
{
	char top[64], at[96];
	struct stat st;
	mode_t mask;

	if (geteuid() != 0)
		return;
	snprintf(top, sizeof(top), "/run/ttalloc-test-%d", getpid());
	snprintf(at, sizeof(at), "%s/inner/sock", top);
	mask = umask(077);
	ck_assert_int_eq(intake_listen(intake, at, &(struct textbuf)TEXTBUF_INIT), 0);
	umask(mask);
	ck_assert_int_eq(stat(top, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0755);
	ck_assert_int_eq(stat(at, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0666);
	intake_free(intake);
	ck_assert_int_eq(access(top, F_OK), -1);
	intake = new_intake();
}
END_TEST

/* Tries to take the stale path together with its siblings; tells 'y' or 'n'. */
static void compete(int hear, int tell)
{
	struct textbuf why = TEXTBUF_INIT;
	int r;

	await(hear);
	r = intake_listen(intake, path, &why);
	if (r < 0 && r != -EADDRINUSE)
		_exit(1);
	if (write(tell, r == 0 ? "y" : "n", 1) != 1)
		_exit(1);
	await(hear);
	if (r == 0)
		intake_free(intake);
}

START_TEST(test_servers_that_start_together)
{
	for (int round = 0; round < 20; round++) {
		struct child c[6];
		unsigned winners = 0;
		int fd;

		intake_free(intake);
		close(bind_at(path, SOCK_STREAM));
		intake = new_intake();
		for (int i = 0; i < 6; i++)
			c[i] = spawn(compete);
		for (int i = 0; i < 6; i++)
			child_go(&c[i]);
		for (int i = 0; i < 6; i++) {
			char answer;

			ck_assert_int_eq(read(c[i].hear, &answer, 1), 1);
			winners += answer == 'y';
		}
		ck_assert_uint_eq(winners, 1);
		fd = connect_path(path);
		ck_assert_int_ge(fd, 0);
		close(fd);
		for (int i = 0; i < 6; i++) {
			child_go(&c[i]);
			child_end(&c[i], 0);
		}
		ck_assert_int_eq(access(path, F_OK), -1);
	}
}
END_TEST

/* ---- life ---- */

static bool is_listed_as_died(void)
{
	return registry_suspects(util->reg) == 50;
}

/* Not only draining: the loop by itself takes in what comes. */
START_TEST(test_the_loop_serves_clients)
{
	struct child c = spawn(send_50_and_wait);

	child_done(&c);
	child_end(&c, SIGKILL);
	run_until(is_listed_as_died);
	ck_assert_uint_eq(live(), 50);
}
END_TEST

START_TEST(test_descriptor_limit_is_raised)
{
	struct rlimit limit, low;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = 256;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
	intake_free(intake);
	intake = new_intake();
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &low), 0);
	ck_assert_uint_eq(low.rlim_cur, limit.rlim_max);
	intake_free(NULL);
}
END_TEST

START_TEST(test_reset_with_clients)
{
	int fd = client();

	send_alloc(fd, 0x1000);
	loop_drain(loop);
	registry_reset(util->reg);
	ck_assert_uint_eq(live(), 0);
	send_alloc(fd, 0x2000);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 1);
	ck_assert_uint_eq(process_of(getpid())->total.count, 1);
	close(fd);
}
END_TEST

/* Whatever depends on how a process is found out about. */
/* ---- rings ---- */

/* A client with a ring: its connection, the memory and the eventfd. */
struct native {
	int fd;
	struct ttalloc_ring *memory;
	int wake;
	uint64_t pos;
};

static int receive_ring(int fd, int *memory, int *wake)
{
	uint8_t bytes[TTALLOC_DIALECT_144];
	struct ttalloc_msg_head head;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	int fds[2] = { -1, -1 };

	ck_assert_int_eq(recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC), sizeof(bytes));
	memcpy(&head, bytes, sizeof(head));
	ck_assert_uint_eq(head.type, TTALLOC_MSG_RING_RESPONSE);
	ck_assert_uint_eq(head.buffer_id, TTALLOC_RING_MAGIC);
	if (m.msg_controllen)
		memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fds));
	*memory = fds[0];
	*wake = fds[1];
	ck_assert_uint_eq(head.size, head.device_id == 0 ? TTALLOC_RING_SIZE : 0);
	return head.device_id;
}

static void ask_for_ring(int fd)
{
	send_message(fd, 144, message(TTALLOC_MSG_RING, 0, TTALLOC_RING_MAGIC, TTALLOC_RING_VERSION));
}

static struct native native_client(void)
{
	struct native n = { .fd = client() };
	void *at;
	int fd;

	ask_for_ring(n.fd);
	loop_drain(loop);
	ck_assert_int_eq(receive_ring(n.fd, &fd, &n.wake), 0);
	at = mmap(NULL, TTALLOC_RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(at, MAP_FAILED);
	close(fd);
	n.memory = at;
	n.memory->lanes = 1;
	return n;
}

static void native_close(struct native *n)
{
	munmap(n->memory, TTALLOC_RING_SIZE);
	close(n->wake);
	close(n->fd);
}

/* Within the first segment. */
static void native_report(struct native *n, uint8_t kind, uint64_t address, uint64_t size)
{
	struct ttalloc_lane *l = (struct ttalloc_lane *)(void *)((char *)n->memory + TTALLOC_LANE_OFFSET(0));

	l->segment[0][n->pos] = (struct ttalloc_record){
		.stamp = ttalloc_ticks_ordered(),
		.kind = kind,
		.seq = (uint32_t)n->pos,
		.event = { .address = address, .size = size },
	};
	atomic_store_explicit(&l->tail, ++n->pos, memory_order_release);
}

START_TEST(test_ring)
{
	struct native n = native_client();
	uint8_t answer[TTALLOC_DIALECT_144];

	ck_assert_uint_eq(info.rings, 1);
	ck_assert_uint_eq(process_of(getpid())->rings, 1);
	ck_assert_uint_eq(process_of(getpid())->dialect, EVENT_RING);
	native_report(&n, TTALLOC_RECORD_ALLOC, 0x1000, 5000);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 1);
	/* A question over the socket is answered with what was reported through the ring before it. */
	native_report(&n, TTALLOC_RECORD_ALLOC, 0x2000, 5);
	send_message(n.fd, 144, message(TTALLOC_MSG_QUERY, 0, 0, 0));
	loop_drain(loop);
	ck_assert_uint_eq(receive(n.fd, answer, sizeof(answer)), sizeof(answer));
	ck_assert_uint_eq(u64_at(answer + TTALLOC_REPLY_DRAM), 5005);
	ck_assert_uint_eq(process_of(getpid())->dialect, EVENT_RING);
	/* What was published is booked when the client is gone, and the ring with it. */
	native_report(&n, TTALLOC_RECORD_FREE, 0x1000, 0);
	native_close(&n);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 1);
	ck_assert_uint_eq(info.rings, 0);
	ck_assert_uint_eq(process_of(getpid())->rings, 0);
	ck_assert_uint_eq(info.clients, 0);
}
END_TEST

START_TEST(test_messages_before_the_ring_come_first)
{
	struct stream s = { .len = 0 };
	int fd = client(), memory, wake;

	put(&s, 144, message(TTALLOC_MSG_ALLOC, 0, 0x1000, 8));
	put(&s, 144, message(TTALLOC_MSG_FREE, 0, 0x1000, 0));
	put(&s, 144, message(TTALLOC_MSG_RING, 0, TTALLOC_RING_MAGIC, TTALLOC_RING_VERSION));
	send_stream(fd, &s);
	loop_drain(loop);
	ck_assert_uint_eq(registry_counters(util->reg)->frees_total, 1);
	ck_assert_int_eq(receive_ring(fd, &memory, &wake), 0);
	close(memory);
	close(wake);
	close(fd);
	loop_drain(loop);
}
END_TEST

START_TEST(test_ring_is_refused)
{
	int fd = client(), memory, wake;

	send_message(fd, 144, message(TTALLOC_MSG_RING, 0, TTALLOC_RING_MAGIC + 1, TTALLOC_RING_VERSION));
	loop_drain(loop);
	ck_assert_int_eq(receive_ring(fd, &memory, &wake), -EPROTONOSUPPORT);
	send_message(fd, 144, message(TTALLOC_MSG_RING, 0, TTALLOC_RING_MAGIC, TTALLOC_RING_VERSION + 1));
	loop_drain(loop);
	ck_assert_int_eq(receive_ring(fd, &memory, &wake), -EPROTONOSUPPORT);
	ck_assert_int_eq(memory, -1);
	ck_assert(error_log_says("ring refused: pid "));
	/* It goes on with messages. */
	send_message(fd, 144, message(TTALLOC_MSG_ALLOC, 0, 0x1000, 8));
	loop_drain(loop);
	ck_assert_uint_eq(live(), 1);

	ask_for_ring(fd);
	loop_drain(loop);
	ck_assert_int_eq(receive_ring(fd, &memory, &wake), 0);
	close(memory);
	close(wake);
	ask_for_ring(fd);
	loop_drain(loop);
	ck_assert_int_eq(receive_ring(fd, &memory, &wake), -EALREADY);
	ck_assert_uint_eq(info.rings, 1);
	close(fd);
	loop_drain(loop);
}
END_TEST

START_TEST(test_broken_ring_ends_the_connection)
{
	struct native n = native_client();

	native_report(&n, TTALLOC_RECORD_ALLOC, 0x1000, 1);
	native_report(&n, 99, 0x1000, 1);
	loop_drain(loop);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 1);
	ck_assert(is_closed(n.fd));
	ck_assert_uint_eq(info.malformed_senders, 1);
	ck_assert_uint_eq(info.rings, 0);
	ck_assert(error_log_says("its ring has a record that makes no sense"));
	native_close(&n);
}
END_TEST

/* SIGKILL with records that nobody has seen yet: they are booked before the end is. */
START_TEST(test_killed_with_a_ring)
{
	struct native n = native_client();
	int pipes[2];
	pid_t pid;
	char byte;

	native_close(&n);
	loop_drain(loop);
	ck_assert_int_eq(pipe(pipes), 0);
	pid = fork();
	if (pid == 0) {
		/* The connection is made here, so that it is this process's; the parent drains meanwhile. */
		int fd = client(), memory, wake;
		struct native c = { .fd = fd };

		ask_for_ring(fd);
		(void)!write(pipes[1], "", 1);
		(void)poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, -1);
		if (receive_ring(fd, &memory, &wake) != 0)
			_exit(1);
		c.memory = mmap(NULL, TTALLOC_RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
		c.memory->lanes = 1;
		for (uint64_t i = 0; i < 1000; i++)
			native_report(&c, TTALLOC_RECORD_ALLOC, 0x1000 * (i + 1), 1);
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
	loop_drain(loop);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	loop_drain(loop);
	ck_assert_uint_eq(live(), 1000);
	ck_assert(process_of(pid)->ended);
	ck_assert_uint_eq(registry_suspects(util->reg), 1000);
	close(pipes[0]);
	close(pipes[1]);
}
END_TEST

static TCase *old_kernel_cases(void)
{
	TCase *t = tcase_create("old-kernel");

	tcase_add_checked_fixture(t, setup_old_kernel, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, test_dialects_at_once);
	tcase_add_test(t, test_read_your_writes_on_new_connections);
	tcase_add_test(t, test_no_descriptor_left_for_the_process);
	tcase_add_test(t, test_identity);
	tcase_add_test(t, test_killed_with_everything_pending);
	tcase_add_test(t, test_killed_as_a_zombie);
	tcase_add_test(t, test_killed_with_another_connection_pending);
	tcase_add_test(t, test_killed_with_two_connections_pending);
	tcase_add_test(t, test_killed_while_known);
	tcase_add_test(t, test_pid_is_used_again_before_the_sender_was_seen);
	tcase_add_test(t, test_pid_is_used_again_before_the_death_was_seen);
	tcase_add_test(t, test_scan_counts_deaths);
	tcase_add_test(t, test_closing_the_connection_is_not_death);
	tcase_add_test(t, test_forked_child_over_its_parents_connection);
	tcase_add_test(t, test_child_goes_on_after_the_death_of_who_connected);
	tcase_add_test(t, test_nobody_acts_for_another_user);
	tcase_add_test(t, test_client_in_a_pid_namespace);
	tcase_add_test(t, test_client_out_of_our_pid_namespace);
	return t;
}

static Suite *intake_suite(void)
{
	Suite *s = suite_create("intake");
	TCase *t = tcase_create("intake");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, test_stream_whole, 0, 4);
	tcase_add_loop_test(t, test_stream_bytewise, 0, 4);
	tcase_add_loop_test(t, test_stream_cut, 0, 4);
	tcase_add_test(t, test_dialects_at_once);
	tcase_add_test(t, test_everything_that_is_pending_is_taken);
	tcase_add_test(t, test_messages_with_descriptors_are_all_taken);
	tcase_add_loop_test(t, test_captures, 0, sizeof(captures) / sizeof(captures[0]));
	tcase_add_test(t, test_read_your_writes);
	tcase_add_test(t, test_read_your_writes_on_new_connections);
	tcase_add_test(t, test_read_your_writes_behind_a_crowd);
	tcase_add_test(t, test_flooding_senders_hold_up_nobody);
	tcase_add_test(t, test_silent_and_half_sent_messages_hold_up_nobody);
	tcase_add_test(t, test_malformed_sender);
	tcase_add_loop_test(t, test_query_is_answered_in_order, 0, 4);
	tcase_add_loop_test(t, test_query_as_the_first_message, 0, 4);
	tcase_add_test(t, test_query_in_pieces);
	tcase_add_test(t, test_device_info);
	tcase_add_test(t, test_question_of_a_client_that_sends_no_more);
	tcase_add_test(t, test_answers_wait_for_a_slow_reader);
	tcase_add_test(t, test_slow_reader_gets_all_answers);
	tcase_add_test(t, test_slow_reader_that_sends_no_more_gets_all_answers);
	tcase_add_test(t, test_slow_reader_that_never_catches_up);
	tcase_add_test(t, test_who_asks_and_never_reads_is_disconnected);
	tcase_add_test(t, test_asker_is_gone);
	tcase_add_test(t, test_dump_sees_what_was_before_it);
	tcase_add_test(t, test_thousands_of_connections);
	tcase_add_test(t, test_ring);
	tcase_add_test(t, test_messages_before_the_ring_come_first);
	tcase_add_test(t, test_ring_is_refused);
	tcase_add_test(t, test_broken_ring_ends_the_connection);
	tcase_add_test(t, test_killed_with_a_ring);
	tcase_add_test(t, test_max_clients);
	tcase_add_test(t, test_no_descriptor_left);
	tcase_add_test(t, test_no_descriptor_left_for_the_process);
	tcase_add_test(t, test_accepting_pauses);
	tcase_add_test(t, test_no_process_slot_left);
	tcase_add_test(t, test_identity);
	tcase_add_test(t, test_identity_of_a_strange_name);
	tcase_add_test(t, test_killed_with_everything_pending);
	tcase_add_test(t, test_killed_as_a_zombie);
	tcase_add_test(t, test_killed_with_two_connections_pending);
	tcase_add_test(t, test_killed_with_another_connection_pending);
	tcase_add_test(t, test_killed_while_known);
	tcase_add_test(t, test_pid_is_used_again_before_the_sender_was_seen);
	tcase_add_test(t, test_pid_is_used_again_before_the_death_was_seen);
	tcase_add_test(t, test_scan_counts_deaths);
	tcase_add_test(t, test_closing_the_connection_is_not_death);
	tcase_add_test(t, test_forked_child_over_its_parents_connection);
	tcase_add_test(t, test_child_dies_with_events_pending_on_its_parents_connection);
	tcase_add_test(t, test_many_children_over_one_connection);
	tcase_add_test(t, test_reported_pid_of_a_zombie);
	tcase_add_test(t, test_made_up_pids);
	tcase_add_test(t, test_child_goes_on_after_the_death_of_who_connected);
	tcase_add_test(t, test_nobody_acts_for_another_user);
	tcase_add_test(t, test_client_in_a_pid_namespace);
	tcase_add_test(t, test_client_out_of_our_pid_namespace);
	tcase_add_test(t, test_mode_of_the_socket);
	tcase_add_test(t, test_stale_socket_is_replaced);
	tcase_add_test(t, test_living_server_is_left_alone);
	tcase_add_test(t, test_living_server_that_is_stuck);
	tcase_add_test(t, test_what_is_not_a_socket_is_left_alone);
	tcase_add_test(t, test_locked_directory);
	tcase_add_test(t, test_stale_socket_of_another_user);
	tcase_add_test(t, test_impossible_paths);
	tcase_add_test(t, test_file_is_gone_at_the_end);
	tcase_add_test(t, test_file_of_somebody_else_is_left_alone_at_the_end);
	tcase_add_test(t, test_directories_below_run);
	tcase_add_test(t, test_servers_that_start_together);
	tcase_add_test(t, test_the_loop_serves_clients);
	tcase_add_test(t, test_descriptor_limit_is_raised);
	tcase_add_test(t, test_reset_with_clients);
	suite_add_tcase(s, t);
	if (!is_emulated())
		suite_add_tcase(s, old_kernel_cases());
	return s;
}

int main(void)
{
	SRunner *runner = srunner_create(intake_suite());
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
