/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * uplink.c - see uplink.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/ring.h"
#include "client/ttalloc-ring.h"
#include "client/uplink.h"

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)
#define BACKOFF_MIN (10 * NS_PER_MS)
#define BACKOFF_MAX (5 * NS_PER_S)
#define MESSAGE ((size_t)TTALLOC_DIALECT_144)
/* Room for a burst while the server is busy with something else. The kernel cuts it to what it allows. */
#define SEND_BUFFER (1024 * 1024)

static pthread_mutex_t descriptors = PTHREAD_MUTEX_INITIALIZER;

void uplink_descriptors_lock(void)
{
	ring_self.descriptors++;
	atomic_signal_fence(memory_order_seq_cst);
	pthread_mutex_lock(&descriptors);
}

void uplink_descriptors_unlock(void)
{
	pthread_mutex_unlock(&descriptors);
	atomic_signal_fence(memory_order_seq_cst);
	ring_self.descriptors--;
}

int64_t uplink_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

void uplink_wait(int fd, short events, int64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = events };
	int64_t left = deadline - uplink_clock();

	/* Rounded up: a wait of less than a millisecond must not become a busy loop. */
	if (left > 0)
		poll(&p, 1, (int)((left + NS_PER_MS - 1) / NS_PER_MS));
}

/* Everything but what uplink_init() was given. */
static void reset(struct uplink *u)
{
	memset(u, 0, offsetof(struct uplink, on_end));
	u->in_len = 0;
	u->fd = -1;
	u->offer[0] = u->offer[1] = -1;
	u->error = -ENOTCONN;
	u->backoff = BACKOFF_MIN;
}

void uplink_init(struct uplink *u, const char *path, void (*on_end)(struct uplink *u, bool theirs))
{
	reset(u);
	u->on_end = on_end;
	memset(u->out, 0, sizeof(u->out));
	strcpy(u->path, path);
}

bool uplink_is_socket(int fd, ino_t inode)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_ino == inode;
}

static void close_offer(struct uplink *u)
{
	int i;

	for (i = 0; i < 2; i++) {
		if (u->offer[i] >= 0)
			close(u->offer[i]);
		u->offer[i] = -1;
	}
}

/* Closes the descriptors unless the program has closed them behind our back and the numbers are something else now. */
static void close_own(struct uplink *u)
{
	if (uplink_is_socket(u->fd, u->inode)) {
		close(u->fd);
		close_offer(u);
	}
	u->fd = u->offer[0] = u->offer[1] = -1;
}

/* Whether the server answers it with a message that is counted. */
static bool is_question(const struct ttalloc_msg_head *m)
{
	return m->type == TTALLOC_MSG_QUERY || m->type == TTALLOC_MSG_DEVICE_INFO_QUERY;
}

/* Whether it tells of memory; the counters count nothing else. */
static bool is_event(const struct ttalloc_msg_head *m)
{
	return !is_question(m) && m->type != TTALLOC_MSG_DUMP && m->type != TTALLOC_MSG_RING &&
	       m->type != TTALLOC_MSG_MARK;
}

static void disconnect(struct uplink *u, bool theirs)
{
	const bool taken = u->ring == UPLINK_RING_TAKEN;

	u->ring = UPLINK_RING_NONE;
	if (taken)
		u->on_end(u, theirs);
	uplink_descriptors_lock();
	close_own(u);
	uplink_descriptors_unlock();
	/* The rest of a question is not for another server: its asker is told that the connection broke. */
	if (u->torn > 0 && !is_event(backlog_at(&u->backlog, 0)))
		backlog_pop(&u->backlog, 1);
	u->torn = 0;
	u->slow = false;
	u->in_len = 0;
	u->answered = u->asked;
	u->counters.uncertain += u->counters.sent - u->confirmed;
	u->confirmed = u->counters.sent;
}

void uplink_disconnect(struct uplink *u)
{
	disconnect(u, false);
}

/* After a send that failed with -errno. What fails otherwise is a descriptor that is not ours any more. */
static void lost(struct uplink *u, ssize_t error)
{
	disconnect(u, error == -EPIPE || error == -ECONNRESET);
}

void uplink_deinit(struct uplink *u)
{
	uplink_disconnect(u);
	backlog_deinit(&u->backlog);
}

void uplink_forked(struct uplink *u)
{
	close_own(u);
	backlog_deinit(&u->backlog);
	reset(u);
}

int uplink_above_standard(int fd)
{
	int high;

	if (fd < 0 || fd > STDERR_FILENO)
		return fd;
	high = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	close(fd);
	return high;
}

static int open_socket(void)
{
	return uplink_above_standard(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

static int connect_to(int fd, const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	strcpy(sa.sun_path, path);
	return connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0 ? -errno : 0;
}

static int connect_somewhere(int fd, const char *path)
{
	int r;

	if (path[0])
		return connect_to(fd, path);
	r = connect_to(fd, TTALLOC_NATIVE_SOCKET);
	return r == -ENOENT ? connect_to(fd, TTALLOC_COMPAT_SOCKET) : r;
}

/* A connected descriptor, or -errno. The descriptors' lock is held. */
static int open_connection(struct uplink *u)
{
	const int room = SEND_BUFFER;
	struct stat st;
	int fd, r;

	fd = open_socket();
	if (fd < 0)
		return -errno;
	r = connect_somewhere(fd, u->path);
	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r < 0) {
		close(fd);
		return r;
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	u->inode = st.st_ino;
	return fd;
}

/* One attempt, if it is time for one. A connect to a Unix socket does not wait for the other side. */
static int uplink_connect(struct uplink *u)
{
	int64_t now = uplink_clock();
	int fd;

	if (now < u->next_attempt)
		return u->error;
	uplink_descriptors_lock();
	fd = open_connection(u);
	if (fd >= 0)
		u->fd = fd;
	uplink_descriptors_unlock();
	if (fd < 0) {
		/* A full listen queue is EAGAIN, which to our callers means "wait for POLLOUT". */
		u->error = fd == -EAGAIN ? -ECONNREFUSED : fd;
		u->next_attempt = now + u->backoff;
		u->backoff = u->backoff * 2 < BACKOFF_MAX ? u->backoff * 2 : BACKOFF_MAX;
		u->counters.failed_attempts++;
		return u->error;
	}
	u->next_attempt = now + BACKOFF_MIN;
	u->backoff = BACKOFF_MIN;
	u->error = -ECONNRESET;
	u->counters.connections++;
	return 0;
}

/* Number of bytes taken, or -errno. */
static ssize_t send_bytes(struct uplink *u, const uint8_t *data, size_t len)
{
	ssize_t n;

	do
		n = send(u->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static ssize_t send_message(struct uplink *u, const struct ttalloc_msg_head *m)
{
	memcpy(u->out, m, sizeof(*m));
	return send_bytes(u, u->out, MESSAGE);
}

/* Takes the first n messages, which are sent, off the backlog. */
static void backlog_sent(struct uplink *u, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (is_event(backlog_at(&u->backlog, i)))
			u->counters.sent++;
	backlog_pop(&u->backlog, n);
}

static int send_batch(struct uplink *u)
{
	size_t i, n, done;
	ssize_t r;

	n = u->backlog.count < UPLINK_BATCH ? u->backlog.count : UPLINK_BATCH;
	for (i = 0; i < n; i++)
		memcpy(u->out + i * MESSAGE, backlog_at(&u->backlog, i), sizeof(struct ttalloc_msg_head));
	r = send_bytes(u, u->out + u->torn, n * MESSAGE - u->torn);
	if (r < 0)
		return (int)r;
	done = u->torn + (size_t)r;
	u->torn = done % MESSAGE;
	backlog_sent(u, done / MESSAGE);
	return 0;
}

/*
 * Sends the backlog without waiting, connecting first if it is time to.
 *
 * Return: 0: connected and nothing is queued any more; -EAGAIN: the server does not read; else: there is no server.
 */
static int pump(struct uplink *u)
{
	int r;

	for (;;) {
		if (u->fd < 0) {
			r = uplink_connect(u);
			if (r < 0)
				return r;
		}
		if (u->backlog.count == 0) {
			u->slow = false;
			return 0;
		}
		r = send_batch(u);
		if (r == -EAGAIN)
			return r;
		/* Then once more, for the server may be a new one already; a second failure meets the backoff. */
		if (r < 0)
			lost(u, r);
	}
}

/* Without memory for its rest, a message that was begun can only be ended by ending the connection. */
static void give_up_torn(struct uplink *u)
{
	if (u->torn > 0 && u->backlog.count == 0) {
		u->torn = 0;
		uplink_disconnect(u);
	}
}

void uplink_settle(struct uplink *u)
{
	int64_t deadline = 0, now;

	while (pump(u) == -EAGAIN && !u->slow) {
		now = uplink_clock();
		if (deadline == 0)
			deadline = now + TTALLOC_EVENT_BOUND_MS * NS_PER_MS;
		if (now >= deadline) {
			u->slow = true;
			u->counters.stalls++;
		} else {
			uplink_wait(u->fd, POLLOUT, deadline);
		}
	}
}

static void queue(struct uplink *u, const struct ttalloc_msg_head *m)
{
	if (backlog_push(&u->backlog, m))
		return;
	/* A full queue may only mean that nobody has looked for a while. */
	if (u->backlog.count > 0) {
		pump(u);
		if (backlog_push(&u->backlog, m))
			return;
	}
	u->counters.dropped++;
	give_up_torn(u);
}

void uplink_event(struct uplink *u, const struct ttalloc_msg_head *m)
{
	ssize_t n;

	if (u->backlog.count == 0 && (u->fd >= 0 || uplink_connect(u) == 0)) {
		n = send_message(u, m);
		if (n == (ssize_t)MESSAGE) {
			u->counters.sent += is_event(m);
			return;
		}
		/* Whatever went wrong, the first send of uplink_settle() meets it again and deals with it. */
		if (n > 0)
			u->torn = (size_t)n;
	}
	queue(u, m);
	uplink_settle(u);
}

/* *m is on its way, its first n bytes already taken. */
static int submitted(struct uplink *u, const struct ttalloc_msg_head *m, size_t n, uint64_t *ticketp)
{
	if (n < MESSAGE) {
		u->torn = n;
		if (!backlog_push(&u->backlog, m)) {
			give_up_torn(u);
			return -ENOMEM;
		}
	}
	if (is_question(m)) {
		u->asked++;
		u->sent_when_asked = u->counters.sent;
	}
	*ticketp = u->asked;
	return 0;
}

int uplink_submit(struct uplink *u, const struct ttalloc_msg_head *m, uint64_t *ticketp)
{
	ssize_t n;
	int r;

	/* Somebody wants to know now. The backoff is for events, which come by the million. */
	if (u->fd < 0)
		u->next_attempt = 0;
	for (;;) {
		r = pump(u);
		if (r < 0)
			return r;
		n = send_message(u, m);
		if (n > 0)
			return submitted(u, m, (size_t)n, ticketp);
		if (n == -EAGAIN)
			return -EAGAIN;
		lost(u, n);
	}
}

/* The server has booked the first `sent` events. An answer that was kept may say less than is known by now. */
static void confirm(struct uplink *u, uint64_t sent)
{
	if (sent > u->confirmed)
		u->confirmed = sent;
}

/* Those that came with a part of a message, out of the reach of fork() from the first moment. */
static void keep_descriptors(struct uplink *u, const struct msghdr *h)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(h);

	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return;
	close_offer(u);
	memcpy(u->offer, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	u->offer[0] = uplink_above_standard(u->offer[0]);
	u->offer[1] = uplink_above_standard(u->offer[1]);
}

/* As recv(). Descriptors are let in only while a ring is being waited for, and no more than the two of a ring. */
static ssize_t receive_bytes(struct uplink *u, uint8_t *data, size_t len)
{
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(u->offer))];
	struct iovec bytes = { .iov_base = data, .iov_len = len };
	struct msghdr h = { .msg_iov = &bytes, .msg_iovlen = 1 };
	ssize_t n;

	if (u->ring != UPLINK_RING_ASKED)
		return recvmsg(u->fd, &h, MSG_DONTWAIT);
	h.msg_control = control;
	h.msg_controllen = sizeof(control);
	uplink_descriptors_lock();
	n = recvmsg(u->fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n > 0)
		keep_descriptors(u, &h);
	uplink_descriptors_unlock();
	return n;
}

/* The answer to the request for a ring is in u->in. */
static void ring_answered(struct uplink *u)
{
	struct ttalloc_msg_head m;

	memcpy(&m, u->in, sizeof(m));
	if (u->ring != UPLINK_RING_ASKED)
		return;
	u->ring = UPLINK_RING_OFFERED;
	confirm(u, u->sent_when_offered);
	if (m.device_id != 0 || m.size != TTALLOC_RING_SIZE || m.buffer_id != TTALLOC_RING_MAGIC || u->offer[0] < 0 ||
	    u->offer[1] < 0)
		uplink_take(u, false);
}

/* One complete answer to a question into u->in: 0, -EAGAIN or -ECONNRESET. */
static int receive_message(struct uplink *u)
{
	ssize_t n;

	while (u->in_len < MESSAGE) {
		n = receive_bytes(u, u->in + u->in_len, MESSAGE - u->in_len);
		if (n > 0) {
			u->in_len += (size_t)n;
		} else if (n < 0 && errno == EAGAIN) {
			return -EAGAIN;
		} else if (n == 0 || errno != EINTR) {
			disconnect(u, n == 0 || errno == ECONNRESET);
			return -ECONNRESET;
		}
		if (u->in_len == MESSAGE && u->in[0] == TTALLOC_MSG_RING_RESPONSE) {
			ring_answered(u);
			u->in_len = 0;
		}
	}
	u->in_len = 0;
	return 0;
}

int uplink_receive(struct uplink *u, uint64_t ticket, uint8_t answer[TTALLOC_DIALECT_144])
{
	int r;

	/* Part of the question itself may still be queued. If this breaks the connection, the answer is given up. */
	if (u->backlog.count > 0)
		pump(u);
	if (u->kept_ticket == ticket) {
		memcpy(answer, u->kept, MESSAGE);
		confirm(u, u->sent_when_asked);
		return 0;
	}
	while (u->answered < ticket) {
		r = receive_message(u);
		if (r < 0)
			return r;
		u->answered++;
		if (u->answered == ticket) {
			memcpy(answer, u->in, MESSAGE);
			confirm(u, u->sent_when_asked);
			return 0;
		}
	}
	/* Given up together with the connection it was asked on. */
	return -ECONNRESET;
}

/* --- the ring --- */

/* Takes all answers that are there. One that is not for us is kept: at most one asker waits at a time. */
static void receive_answers(struct uplink *u, uint64_t own_ticket)
{
	while (u->fd >= 0 && receive_message(u) == 0) {
		if (u->answered == u->asked) {
			disconnect(u, false);
			return;
		}
		u->answered++;
		if (u->answered == own_ticket)
			return;
		u->kept_ticket = u->answered;
		memcpy(u->kept, u->in, MESSAGE);
	}
}

/* Until the ring is answered or, with a ticket, that question is. False: in vain. */
static bool wait_for_answer(struct uplink *u, uint64_t ticket)
{
	const int64_t deadline = uplink_clock() + TTALLOC_EVENT_BOUND_MS * NS_PER_MS;

	for (;;) {
		if (u->backlog.count > 0)
			pump(u);
		receive_answers(u, ticket);
		if (u->fd < 0)
			return false;
		if (ticket == 0 ? u->ring != UPLINK_RING_ASKED : u->answered >= ticket)
			return true;
		if (uplink_clock() >= deadline) {
			u->counters.stalls++;
			return false;
		}
		uplink_wait(u->fd, u->backlog.count > 0 ? POLLIN | POLLOUT : POLLIN, deadline);
	}
}

/* Sends a message that is no event, as a whole or with its rest in the backlog. */
static bool send_request(struct uplink *u, const struct ttalloc_msg_head *m)
{
	ssize_t n = send_message(u, m);

	/* What is wrong with the connection is for the next event to find out. */
	if (n <= 0)
		return false;
	if (n == (ssize_t)MESSAGE)
		return true;
	u->torn = (size_t)n;
	if (backlog_push(&u->backlog, m))
		return true;
	give_up_torn(u);
	return false;
}

static void ask_for_ring(struct uplink *u, pid_t pid)
{
	const struct ttalloc_msg_head m = {
		.type = TTALLOC_MSG_RING,
		.process_id = pid,
		.buffer_id = TTALLOC_RING_MAGIC,
		.size = TTALLOC_RING_VERSION,
	};

	if (!send_request(u, &m))
		return;
	u->ring = UPLINK_RING_ASKED;
	u->sent_when_offered = u->counters.sent;
	wait_for_answer(u, 0);
}

/* Whether the server has booked all events that went by message. If it has not said so yet, a question finds out. */
static bool confirm_messages(struct uplink *u, pid_t pid)
{
	const struct ttalloc_msg_head m = { .type = TTALLOC_MSG_QUERY, .process_id = pid };

	if (u->counters.sent == u->confirmed)
		return true;
	if (!send_request(u, &m))
		return false;
	u->asked++;
	if (!wait_for_answer(u, u->asked))
		return false;
	confirm(u, u->counters.sent);
	return true;
}

void uplink_catch_up(struct uplink *u, pid_t pid)
{
	uplink_settle(u);
	if (u->fd >= 0 && u->backlog.count == 0)
		confirm_messages(u, pid);
}

bool uplink_offer(struct uplink *u, pid_t pid)
{
	if (u->backlog.count > 0 || (u->fd < 0 && uplink_connect(u) < 0))
		return false;
	if (u->ring == UPLINK_RING_NONE)
		ask_for_ring(u, pid);
	else if (u->ring == UPLINK_RING_ASKED)
		receive_answers(u, 0);
	if (u->ring != UPLINK_RING_OFFERED || u->backlog.count > 0)
		return false;
	if (confirm_messages(u, pid))
		return u->ring == UPLINK_RING_OFFERED;
	if (u->ring == UPLINK_RING_OFFERED)
		uplink_take(u, false);
	return false;
}

void uplink_take(struct uplink *u, bool taken)
{
	uplink_descriptors_lock();
	if (taken)
		u->offer[1] = -1;
	close_offer(u);
	u->ring = taken ? UPLINK_RING_TAKEN : UPLINK_RING_REFUSED;
	uplink_descriptors_unlock();
}

void uplink_look(struct uplink *u, bool gone)
{
	struct pollfd p = { .fd = u->fd, .events = POLLRDHUP };

	if (u->fd < 0)
		return;
	if (gone)
		disconnect(u, true);
	else if (!uplink_is_socket(u->fd, u->inode))
		disconnect(u, false);
	else if (poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)))
		disconnect(u, true);
}

bool uplink_requeue(struct uplink *u, const struct ttalloc_msg_head *m)
{
	if (backlog_push(&u->backlog, m))
		return true;
	u->counters.dropped++;
	return false;
}
