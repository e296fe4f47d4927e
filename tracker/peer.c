/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * peer.c - one connection of a client; the contract is in peer.h.
 *
 * One recvmsg() takes what is there. When it fills less than the buffer, the queue was empty at that moment, which is
 * all that promise 1 (read your writes) needs; when it fills the buffer, or stopped because somebody sent descriptors
 * along (which we do not take), the kernel is asked once how much is left. No MSG_PEEK: its cost grows with the queue.
 *
 * Functions that may find that the connection is over return false then, and only peer_ready() and peer_new() close it.
 */
#include "tracker/peer.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/ttalloc-proto.h"
#include "tracker/decode.h"
#include "tracker/textbuf.h"

#define OWNERS 8               /* reported pids that are remembered */
#define LOOKUPS 256            /* of reported pids in a row; each costs as much as some hundred events */
#define EVENTS_PER_LOOKUP 1024 /* after so many events there is one more */

/* What a reported pid was found to mean. */
struct owner {
	int32_t pid;      /* 0: not used */
	uint32_t slot;    /* PROCESS_NONE: nobody, so the peer itself */
	uint32_t serial;  /* of the process in that slot */
};

struct peer {
	struct loop_source source;
	struct peer_set *set;
	struct watch *watch;
	struct ring *ring;       /* NULL: it reports by messages */
	struct peer *next;
	struct peer *prev;
	struct textbuf out;      /* replies that wait */
	size_t out_sent;         /* bytes of them that are gone */
	bool half_closed;        /* the client sends no more; it is still reading */
	uint8_t next_owner;      /* which of `owners` is replaced next */
	uint16_t lookups;        /* that are left */
	uint16_t dialect;        /* as the registry was told */
	uint32_t events;         /* since a lookup was earned */
	int32_t reported_pid;    /* as the registry was told */
	uint8_t mark_len;        /* what there is of a mark's name */
	char mark[TTALLOC_MARK_NAME_MAX + TTALLOC_MARK_PIECE];
	struct owner owners[OWNERS];
	struct decoder decoder;
};

/* ---- who acted ---- */

static struct owner *find_owner(struct peer *p, int32_t pid)
{
	const struct registry *reg = p->set->ingest->registry;

	for (unsigned i = 0; i < OWNERS; i++) {
		struct owner *o = &p->owners[i];
		const struct process *process;

		if (o->pid != pid)
			continue;
		process = o->slot == PROCESS_NONE ? NULL : registry_process(reg, o->slot);
		if (o->slot == PROCESS_NONE || (process && process->serial == o->serial && !process->ended))
			return o;
		o->pid = 0;  /* ended: the number may be another process's by now */
		return NULL;
	}
	return NULL;
}

/* NULL: no lookup is left, so that a sender who makes up one pid after the other does not keep us in /proc. */
static struct owner *look_up_owner(struct peer *p, int32_t pid, uint16_t dialect)
{
	struct registry *reg = p->set->ingest->registry;
	struct watch *w = watch_known(p->set->watches, p->watch, pid);
	struct owner *o;

	if (!w && !p->lookups)
		return NULL;
	if (!w) {
		p->lookups--;
		w = watch_look_up(p->set->watches, p->watch, pid);
	}
	o = &p->owners[p->next_owner];
	p->next_owner = (uint8_t)((p->next_owner + 1) % OWNERS);
	*o = (struct owner){ .pid = pid, .slot = PROCESS_NONE };
	if (w) {
		o->slot = w->slot;
		o->serial = registry_process(reg, w->slot)->serial;
		if (dialect)
			registry_process_dialect(reg, w->slot, dialect);
	}
	return o;
}

/* The process slot on which an event is booked (docs/protocol.md, "Who the sender is"). */
static uint32_t owner_of(struct peer *p, const struct event *e)
{
	struct watch *w = p->watch;
	int32_t pid = e->reported_pid;
	const struct owner *o;

	if (pid == w->pid || !pid)
		return w->slot;
	if (pid != w->inner_pid && pid > 0) {
		o = find_owner(p, pid);
		if (!o)
			o = look_up_owner(p, pid, e->dialect);
		if (o && o->slot != PROCESS_NONE)
			return o->slot;
	}
	if (pid != p->reported_pid) {
		p->reported_pid = pid;
		registry_process_reported(p->set->ingest->registry, w->slot, pid);
	}
	return w->slot;
}

static void earn_lookups(struct peer *p, size_t events)
{
	p->events += (uint32_t)events;
	if (p->events < EVENTS_PER_LOOKUP)
		return;
	p->events = 0;
	if (p->lookups < LOOKUPS)
		p->lookups++;
}

/* ---- replies ---- */

static size_t out_pending(const struct peer *p)
{
	return p->out.len - p->out_sent;
}

static int watch_events(struct peer *p)
{
	uint32_t in = p->half_closed ? 0 : EPOLLIN;

	return loop_change(p->set->loop, &p->source, in | (out_pending(p) ? EPOLLOUT : 0));
}

static void forget_out(struct peer *p)
{
	textbuf_deinit(&p->out);
	p->out_sent = 0;
}

/* Sends what goes now. Returns how much that was; when nobody will ever read it, all of it. */
static size_t send_now(const struct peer *p, const char *data, size_t len)
{
	ssize_t n;

	do
		n = send(p->source.fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return (size_t)n;
	return errno == EAGAIN ? 0 : len;
}

static bool flush(struct peer *p)
{
	p->out_sent += send_now(p, p->out.data + p->out_sent, out_pending(p));
	if (out_pending(p))
		return true;
	forget_out(p);
	return !p->half_closed && watch_events(p) == 0;
}

static bool enqueue(struct peer *p, const char *data, size_t len)
{
	const struct process *process = registry_process(p->set->ingest->registry, p->watch->slot);
	bool first = !out_pending(p);

	/* What is gone of it counts until all of it is: a socket that takes anything takes more than this. */
	if (p->out.len + len <= PEER_OUT_MAX) {
		textbuf_put(&p->out, data, len);
		if (!textbuf_error(&p->out))
			return !first || watch_events(p) == 0;
	}
	errlog_add(p->set->ingest->errlog, p->set->now,
		   "client disconnected: pid %d (%s): asks without reading the answers", process->pid, process->comm);
	return false;
}

static bool send_or_enqueue(struct peer *p, const char *data, size_t len)
{
	size_t done = out_pending(p) ? 0 : send_now(p, data, len);

	return done == len || enqueue(p, data + done, len - done);
}

static bool answer(struct peer *p, const struct event *e)
{
	char reply[TTALLOC_MSG_MAX];
	size_t len = ingest_reply(p->set->ingest, e, (uint8_t *)reply);

	return e->reply_from >= len || send_or_enqueue(p, reply + e->reply_from, len - e->reply_from);
}

/* ---- rings ---- */

/* A ring that is broken is not read any more; the connection is closed in the next turn. */
static void ring_broken(void *data, const char *why)
{
	struct peer *p = data;
	const struct process *process = registry_process(p->set->ingest->registry, p->watch->slot);

	errlog_add(p->set->ingest->errlog, loop_now(), "malformed sender: pid %d (%s): its ring has %s", process->pid,
		   process->comm, why);
	p->set->info->malformed_senders++;
	(void)shutdown(p->source.fd, SHUT_RDWR);
}

/* The answer and, if that is good, the two descriptors. False: it did not go. */
static bool send_ring(const struct peer *p, const uint8_t *reply, size_t len)
{
	int fds[2] = { p->ring ? ring_memory_fd(p->ring) : -1, p->ring ? ring_wake_fd(p->ring) : -1 };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(fds))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)reply, .iov_len = len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (p->ring) {
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
		*CMSG_FIRSTHDR(&m) = (struct cmsghdr){
			.cmsg_len = CMSG_LEN(sizeof(fds)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS
		};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), fds, sizeof(fds));
	}
	do
		n = sendmsg(p->source.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)len;
}

static int make_ring(struct peer *p, const struct event *e)
{
	struct ring_owner owner = { .process = p->watch->slot, .broken = ring_broken, .data = p };

	if (e->address != TTALLOC_RING_MAGIC || e->size != TTALLOC_RING_VERSION)
		return -EPROTONOSUPPORT;
	if (p->ring)
		return -EALREADY;
	/* Descriptors cannot wait in a queue of bytes. */
	return out_pending(p) ? -EBUSY : ring_new(&p->ring, p->set->rings, &owner);
}

/* A client wants a ring. Without one it goes on with messages, so a failure is no reason to part. */
static bool give_ring(struct peer *p, const struct event *e)
{
	struct registry *reg = p->set->ingest->registry;
	uint8_t reply[TTALLOC_DIALECT_144] = { 0 };
	int r = make_ring(p, e);
	struct ttalloc_msg_head head = {
		.type = TTALLOC_MSG_RING_RESPONSE,
		.device_id = (int32_t)htole32((uint32_t)r),
		.size = r == 0 ? htole64(TTALLOC_RING_SIZE) : 0,
		.buffer_id = htole64(TTALLOC_RING_MAGIC),
	};

	memcpy(reply, &head, sizeof(head));
	if (r == 0 && send_ring(p, reply, sizeof(reply))) {
		registry_process_dialect(reg, p->watch->slot, EVENT_RING);
		p->dialect = EVENT_RING;
		return true;
	}
	if (r == 0)
		return false;
	errlog_add(p->set->ingest->errlog, p->set->now, "ring refused: pid %d (%s): %s", p->watch->pid,
		   registry_process(reg, p->watch->slot)->comm,
		   r == -EDQUOT ? "this user has as many as one may have" : strerror(-r));
	return send_or_enqueue(p, (const char *)reply, sizeof(reply));
}

/* ---- booking ---- */

static bool wants_answer(const struct event *e)
{
	return e->type == TTALLOC_MSG_QUERY || e->type == TTALLOC_MSG_DEVICE_INFO_QUERY ||
	       e->type == TTALLOC_MSG_DUMP || e->type == TTALLOC_MSG_DUMP_KERNELS || e->type == TTALLOC_MSG_RING ||
	       e->type == TTALLOC_MSG_MARK;
}

/* A piece of a mark's name; one that does not follow the one before is no name. */
static void mark_piece(struct peer *p, const struct event *e)
{
	uint64_t words[TTALLOC_MARK_PIECE / sizeof(uint64_t)] = {
		htole64(e->size), htole64(e->address), htole64(e->time) };
	size_t len = e->wire_type;

	if (e->device == 0)
		p->mark_len = 0;
	if (e->device != p->mark_len || len <= p->mark_len || len > TTALLOC_MARK_NAME_MAX)
		len = p->mark_len = 0;
	memcpy(p->mark + p->mark_len, words, sizeof(words));
	p->mark_len = (uint8_t)(p->mark_len + sizeof(words));
	if (len > p->mark_len)
		return;
	p->mark_len = 0;
	ingest_mark(p->set->ingest, e->process, p->mark, len, p->set->now);
}

static bool act(struct peer *p, const struct event *e)
{
	if (e->type == TTALLOC_MSG_MARK) {
		mark_piece(p, e);
		return true;
	}
	if (e->type == TTALLOC_MSG_QUERY || e->type == TTALLOC_MSG_DEVICE_INFO_QUERY)
		return answer(p, e);
	if (e->type == TTALLOC_MSG_RING)
		return give_ring(p, e);
	p->set->dump(p->set->data);
	return true;
}

static void tell_dialect(struct peer *p, uint16_t dialect)
{
	if (!dialect || dialect == p->dialect || p->ring)
		return;
	p->dialect = dialect;
	registry_process_dialect(p->set->ingest->registry, p->watch->slot, dialect);
}

/* Takes in what was reported through rings before a question that has been received: once for all that came with it,
 * since that is what a flood of questions would make expensive for everyone. */
static void drain_rings(struct peer_set *set)
{
	if (!set->drained)
		ring_set_drain(set->rings);
	set->drained = true;
}

/* Books events in order; everything before a question is booked when it is answered. */
static bool book(struct peer *p, struct event *events, size_t n)
{
	struct ingest *ingest = p->set->ingest;
	size_t booked = 0;

	for (size_t i = 0; i < n; i++) {
		events[i].process = owner_of(p, &events[i]);
		if (!wants_answer(&events[i]))
			continue;
		drain_rings(p->set);
		ingest_events(ingest, events + booked, i + 1 - booked, p->set->now);
		booked = i + 1;
		if (!act(p, &events[i]))
			return false;
	}
	ingest_events(ingest, events + booked, n - booked, p->set->now);
	if (n)
		tell_dialect(p, events[n - 1].dialect);
	earn_lookups(p, n);
	return true;
}

static void malformed(struct peer *p)
{
	const struct process *process = registry_process(p->set->ingest->registry, p->watch->slot);
	struct textbuf why = TEXTBUF_INIT;

	decoder_reason(&p->decoder, &why);
	errlog_add(p->set->ingest->errlog, p->set->now, "malformed sender: pid %d (%s): %.*s", process->pid,
		   process->comm, (int)why.len, why.len ? why.data : "");
	textbuf_deinit(&why);
	p->set->info->malformed_senders++;
}

/* ---- receiving ---- */

static bool feed(struct peer *p, const uint8_t *data, size_t len)
{
	struct event *events = p->set->events;
	size_t consumed, n;
	int r;

	do {
		r = decoder_feed(&p->decoder, data, len, &consumed, events, PEER_BATCH, &n);
		if (!book(p, events, n))
			return false;
		data += consumed;
		len -= consumed;
	} while (r == 0 && len > 0);
	if (r < 0)
		malformed(p);
	return r == 0;
}

/* Nothing is pending: a dialect that is only likely has to do, for a question waits for its answer. */
static bool feed_idle(struct peer *p)
{
	size_t n = decoder_idle(&p->decoder, p->set->events);

	tell_dialect(p, (uint16_t)decoder_likely_dialect(&p->decoder));
	return book(p, p->set->events, n);
}

/* The client sends no more. What it was asking is answered, and it may still be reading. */
static bool feed_end(struct peer *p)
{
	size_t n;
	int r = decoder_end(&p->decoder, p->set->events, &n);
	bool go_on = book(p, p->set->events, n);

	tell_dialect(p, (uint16_t)decoder_dialect(&p->decoder));
	if (r < 0)
		malformed(p);
	p->half_closed = true;
	return r == 0 && go_on && out_pending(p) && watch_events(p) == 0;
}

/* The number of bytes taken from the socket, at most `max`; 0 at the end of the stream, -EAGAIN when nothing is
 * there, -EBADMSG when the connection is over. *cut: there may be more. */
static ssize_t take(struct peer *p, size_t max, bool *cut)
{
	uint8_t *buffer = p->set->buffer;
	struct iovec iov = { .iov_base = buffer, .iov_len = max };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	do
		n = recvmsg(p->source.fd, &m, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	*cut = n == (ssize_t)max || (n > 0 && m.msg_flags & MSG_CTRUNC);
	p->set->now = loop_now();
	p->set->drained = false;
	if (n < 0)
		return errno == EAGAIN ? -EAGAIN : 0;  /* a connection that was reset has ended */
	if (n > 0 && !feed(p, buffer, (size_t)n))
		return -EBADMSG;
	return n;
}

/* Takes in all that is pending now. */
static bool receive(struct peer *p)
{
	bool cut;
	ssize_t n = take(p, PEER_BUFFER, &cut);
	int rest = 0;

	if (cut && ioctl(p->source.fd, FIONREAD, &rest) == 0) {
		while (n > 0 && rest > 0) {
			n = take(p, rest < PEER_BUFFER ? (size_t)rest : PEER_BUFFER, &cut);
			rest -= (int)n;
		}
	}
	if (n == -EBADMSG)
		return false;
	return n == 0 ? feed_end(p) : feed_idle(p);
}

/* ---- life ---- */

static void peer_close(struct peer *p)
{
	struct peer_set *set = p->set;

	if (p->next)
		p->next->prev = p->prev;
	if (p->prev)
		p->prev->next = p->next;
	else
		set->peers = p->next;
	loop_remove(set->loop, &p->source);
	/* Before its client can see that the connection has ended: then it delivers what was not booked to another. */
	ring_free(p->ring);
	close(p->source.fd);
	forget_out(p);
	registry_process_disconnect(set->ingest->registry, p->watch->slot);
	watch_put(p->watch);
	set->info->clients--;
	free(p);
}

static void peer_ready(struct loop_source *s, uint32_t events)
{
	struct peer *p = loop_owner(s, struct peer, source);
	bool go_on = true;

	if (out_pending(p))
		go_on = flush(p);
	if (go_on && !p->half_closed)
		go_on = receive(p);
	if (!go_on)
		peer_close(p);
}

int peer_new(struct peer_set *set, int fd)
{
	struct peer *p = calloc(1, sizeof(*p));
	int r = p ? 0 : -ENOMEM;

	if (r == 0) {
		p->set = set;
		p->source = (struct loop_source){ .fd = fd, .ingest = true, .ready = peer_ready };
		p->lookups = LOOKUPS;
		decoder_init(&p->decoder);
		r = loop_add(set->loop, &p->source, EPOLLIN);
	}
	if (r == 0)
		r = watch_peer(set->watches, fd, &p->watch);
	if (r < 0) {
		if (p)
			loop_remove(set->loop, &p->source);
		free(p);
		return r;
	}
	p->next = set->peers;
	if (p->next)
		p->next->prev = p;
	set->peers = p;
	set->info->clients++;
	ingest_connect(set->ingest, p->watch->slot, loop_now());
	/* At once: in a round of the loop in which everything pending is taken in, a new connection is pending, too. */
	if (!receive(p))
		peer_close(p);
	return 0;
}

int peer_set_init(struct peer_set *set)
{
	set->peers = NULL;
	set->buffer = malloc(PEER_BUFFER);
	return set->buffer ? 0 : -ENOMEM;
}

void peer_set_deinit(struct peer_set *set)
{
	while (set->peers)
		peer_close(set->peers);
	free(set->buffer);
	set->buffer = NULL;
}
