/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * ttalloc.c - the functions of ttalloc.h: locks, fork, and which way an event goes: through the ring (ring.c), or as a
 * message as long as there is none (uplink.c).
 *
 * The way of an event: event() publishes it if the thread has a lane of the instance's ring (short_id tells that the
 * ring is still the one); else event_slow() finds a lane, asks for a ring, or sends a message. A server that is gone
 * is noticed by looking at the connection (look()): about once a second, when the ring is full, or as it says. Then
 * what it has not booked is queued again (ring_ended()), and everything goes by message until another server gives a
 * ring.
 *
 * Locks, in the order in which they may be taken:
 *  - `asking` of an instance: one question at a time. Held while waiting for an answer; event calls never take it.
 *  - `common` of a ring: the lane that is shared when there are not enough.
 *  - `lock` of an instance: its uplink, its rings and devices. Held for one message, and by an event call that waits
 *    for the server.
 *  - `defining` of a ring: the numbers of call sites and tags.
 *  - the descriptors' lock of uplink.c: also guards the list of instances. The only one that fork() takes.
 *
 * fork: the child finds the list and every descriptor consistent, because the forking thread holds the descriptors'
 * lock. Everything else in an instance may have been left half-done by a thread that does not exist in the child: it
 * is thrown away, mutexes included, in the child before fork() returns there. So nobody in the child can meet a lock
 * that nobody holds, and no event of the parent is sent twice.
 *   Handlers that the program registered before us run while the lock is held, in the child also before anything is
 * thrown away. When one calls us, which no event can do the short way then, that is as if ours had run already
 * (fork_interrupted()); before the fork it is made undone again when the call is over (fork_begins()).
 *
 * signals: an event call in a handler may have interrupted anything. What is under way in its own thread it knows
 * from ring_self: if an event call is, or a lock is held, it does not wait for any lock, and changes no binding; its
 * event is dropped and counted if it cannot do without.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/detail.h"
#include "client/ring.h"
#include "client/site.h"
#include "client/tag.h"
#include "client/ttalloc-proto.h"
#include "client/ttalloc-ring.h"
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

static_assert((int)TTALLOC_RECORD_ALLOC == (int)TTALLOC_MSG_ALLOC, "events of the ring are those of the wire");
static_assert((int)TTALLOC_RECORD_KERNEL_UNLOAD == (int)TTALLOC_MSG_KERNEL_UNLOAD, "so they can be queued again");

#define DEVICES 64

struct device {
	int number;
	bool told;                /* to the current ring */
	struct ttalloc_device_data data;
};

struct ttalloc {
	/* Read by every event, hardly ever written. */
	_Atomic uint64_t short_id; /* ring_id where an event may go the short way, else what no ring has */
	_Atomic bool untold;      /* a device is not told */
	bool permanent;           /* the one of ttalloc_default() */
	pid_t pid;                /* ours; getpid() is a system call */
	struct ttalloc *next;     /* in the list of all instances */
	struct device devices[DEVICES];
	unsigned device_count;

	_Atomic uint64_t ring_id; /* of `ring`; 0: none */
	pthread_mutex_t asking;
	pthread_mutex_t lock;
	_Atomic uint64_t dropped; /* by signal handlers that could not wait */
	uint64_t losses_told;     /* dropped + uncertain when ttalloc_sync() last spoke of them */
	struct ring *ring;        /* of this connection, or NULL */
	struct ring *ended;       /* those before it that are not free yet */
	uint64_t past_sent;       /* by rings that are free */
	uint64_t past_dropped;
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
	bool forking;             /* it is a handler of fork() */
	unsigned fork_depth;      /* then: `depth` when that began */
};

static struct ttalloc *instances;

/* With a detailed log every event goes through event_slow(), which writes it: so without one nobody has to ask. */
static void set_ring_id(struct ttalloc *t, uint64_t id)
{
	atomic_store(&t->short_id, detail_on ? UINT64_MAX : id);
	atomic_store(&t->ring_id, id);
}

/* --- fork --- */

static void forget_rings(struct ttalloc *t)
{
	struct ring *r, *next;

	for (r = t->ended; r; r = next) {
		next = r->next;
		ring_forked(r);
	}
	if (t->ring)
		ring_forked(t->ring);
	t->ring = t->ended = NULL;
	set_ring_id(t, 0);
	atomic_store(&t->untold, t->device_count > 0);
	t->past_sent = t->past_dropped = 0;
	atomic_store(&t->dropped, 0);
}

static void forked(struct ttalloc *t)
{
	forget_rings(t);
	t->asking = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	t->lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	t->pid = getpid();
	t->losses_told = 0;
	uplink_forked(&t->uplink);
}

static void fork_begins(unsigned depth)
{
	struct ring_self *self = &ring_self;

	uplink_descriptors_lock();
	ring_self_park(self);
	self->fork_depth = depth;
	atomic_signal_fence(memory_order_seq_cst);
	self->forking = getpid();
}

static void before_fork(void)
{
	fork_begins(ring_self.depth);
}

/* Whether it is the first to come, of our handler and a call in an earlier handler. */
static bool fork_ends(struct ring_self *self)
{
	const bool forking = self->forking != 0;

	self->forking = 0;
	atomic_signal_fence(memory_order_seq_cst);
	return forking;
}

static void after_fork_in_parent(void)
{
	struct ring_self *self = &ring_self;

	if (!fork_ends(self))
		return;
	ring_self_unpark(self);
	uplink_descriptors_unlock();
}

static void after_fork_in_child(void)
{
	struct ring_self *self = &ring_self;
	const unsigned depth = self->depth;
	struct ttalloc *t;

	if (!fork_ends(self))
		return;
	/* The call that is under way in a handler has begun nothing yet. */
	self->depth = self->fork_depth;
	for (t = instances; t; t = t->next)
		forked(t);
	self->depth = depth;
	ring_self_forked();
	detail_forked();
	uplink_descriptors_unlock();
}

/* True: this is a handler in front of ours, and what ours has done is to be done again: fork_begins(). */
static bool fork_interrupted(void)
{
	const pid_t forking = ring_self.forking;

	if (ring_likely(forking == 0))
		return false;
	if (forking == getpid())
		after_fork_in_parent();
	else
		after_fork_in_child();
	return forking == getpid();
}

static int setup_error;

static void setup(void)
{
	site_setup();
	detail_setup();
	setup_error = ring_setup();
	if (setup_error == 0)
		setup_error = -pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* --- entering and leaving --- */

static struct caller caller_save(void)
{
	struct caller c = { .error = errno, .fork_depth = ring_self.fork_depth };

	/* A thread that is cancelled in send() or poll() would leave the instance locked for ever. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &c.cancelable);
	c.forking = fork_interrupted();
	return c;
}

static void caller_restore(const struct caller *c)
{
	int ignored;

	/* The call that is about to end is none that the fork interrupts. */
	if (c->forking)
		fork_begins(c->fork_depth);
	pthread_setcancelstate(c->cancelable, &ignored);
	errno = c->error;
}

/* --- rings --- */

/* The connection is ending. */
static void ring_ended(struct uplink *u, bool theirs)
{
	struct ttalloc *t = (struct ttalloc *)(void *)((uint8_t *)u - offsetof(struct ttalloc, uplink));
	struct ring *r = t->ring;
	const bool gone = atomic_load(r->attention) & TTALLOC_ATTENTION_GONE;

	t->ring = NULL;
	set_ring_id(t, 0);
	u->counters.uncertain += ring_end(r, theirs || gone, u, t->pid);
	r->next = t->ended;
	t->ended = r;
}

/*
 * Takes over what threads have published since in ended rings, and frees those that nobody uses any more. A thread that
 * was late may find the next ring there: what it left goes first, or its allocation would come behind its free.
 */
static void collect(struct ttalloc *t)
{
	struct ring **p = &t->ended, *r;
	uint64_t sent, dropped;

	while ((r = *p)) {
		if (!ring_collect(r, &t->uplink, t->pid)) {
			p = &r->next;
			continue;
		}
		*p = r->next;
		ring_sums(r, &sent, &dropped);
		t->past_sent += sent;
		t->past_dropped += dropped;
		ring_unref(r);
	}
	if (t->ring && t->uplink.backlog.count > 0)
		uplink_catch_up(&t->uplink, t->pid);
}

/* Asks for a ring if there is none. */
static void make_ring(struct ttalloc *t)
{
	struct uplink *u = &t->uplink;
	struct ring *r;
	unsigned i;

	if (t->ring || !uplink_offer(u, t->pid))
		return;
	if (ring_new(&r, u->offer, u->fd, u->inode) < 0) {
		uplink_take(u, false);
		return;
	}
	/* A child that is forked in between finds the event descriptor twice rather than never. */
	t->ring = r;
	uplink_take(u, true);
	for (i = 0; i < t->device_count; i++)
		t->devices[i].told = false;
	atomic_store(&t->untold, t->device_count > 0);
	set_ring_id(t, r->id);
}

/* Notices a server that is gone, and delivers what it left. */
static void look(struct ttalloc *t)
{
	if (t->ring)
		uplink_look(&t->uplink, atomic_load(t->ring->attention) & TTALLOC_ATTENTION_GONE);
	collect(t);
	if (!t->ring && t->uplink.backlog.count > 0)
		uplink_settle(&t->uplink);
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

	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->asking = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	t->lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	t->pid = getpid();
	set_ring_id(t, 0);
	uplink_init(&t->uplink, path, ring_ended);
	instances_add(t);
	return t;
}

int ttalloc_open(struct ttalloc **tp, const char *socket_path)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct caller c;

	*tp = NULL;
	if (!socket_path)
		socket_path = secure_getenv("TTALLOC_SOCKET");
	if (!socket_path)
		socket_path = "";
	if (strlen(socket_path) >= sizeof(((struct uplink *)0)->path))
		return -ENAMETOOLONG;
	pthread_once(&once, setup);
	if (setup_error)
		return setup_error;
	c = caller_save();
	*tp = instance_new(socket_path);
	caller_restore(&c);
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

/* --- locks --- */

/* Makes no system call when the lock is free. A handler that asks meanwhile sees in `locks` that it must not wait. */
static void lock(struct ttalloc *t)
{
	ring_self.locks++;
	atomic_signal_fence(memory_order_seq_cst);
	pthread_mutex_lock(&t->lock);
}

static bool try_lock(struct ttalloc *t)
{
	ring_self.locks++;
	atomic_signal_fence(memory_order_seq_cst);
	if (pthread_mutex_trylock(&t->lock) == 0)
		return true;
	ring_self.locks--;
	return false;
}

static void unlock(struct ttalloc *t)
{
	pthread_mutex_unlock(&t->lock);
	atomic_signal_fence(memory_order_seq_cst);
	ring_self.locks--;
}

/* With the lock, descriptors may have to be opened or closed. */
static bool lock_or_not(struct ttalloc *t, bool nested)
{
	if (ring_self.descriptors > 0)
		return false;
	if (nested)
		return try_lock(t);
	lock(t);
	return true;
}

/* From now on, until event_left(), handlers leave the thread's bindings alone. Returns how deep that was nested. */
static inline unsigned event_entered(struct ring_self *self)
{
	const unsigned depth = self->depth;

	self->depth = depth + 1;
	atomic_signal_fence(memory_order_seq_cst);
	return depth;
}

static inline void event_left(struct ring_self *self, unsigned depth)
{
	atomic_signal_fence(memory_order_seq_cst);
	self->depth = depth;
}

static void instance_free(struct ttalloc *t)
{
	struct ring *r, *next;

	instances_remove(t);
	uplink_deinit(&t->uplink);
	ring_unbind_ended(&ring_self);
	for (r = t->ended; r; r = next) {
		next = r->next;
		ring_unref(r);
	}
	pthread_mutex_destroy(&t->lock);
	pthread_mutex_destroy(&t->asking);
	free(t);
}

void ttalloc_close(struct ttalloc *t)
{
	struct caller c;
	unsigned depth;

	if (!t)
		return;
	c = caller_save();
	depth = event_entered(&ring_self);
	lock(t);
	look(t);
	uplink_settle(&t->uplink);
	unlock(t);
	if (!t->permanent)
		instance_free(t);
	event_left(&ring_self, depth);
	caller_restore(&c);
}

/* --- events --- */

static uint64_t now_epoch(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * (uint64_t)NS_PER_S + (uint64_t)ts.tv_nsec;
}

static inline bool is_allocation(const struct ring_event *e)
{
	return e->kind == TTALLOC_RECORD_ALLOC || e->kind == TTALLOC_RECORD_CB_ALLOC ||
	       e->kind == TTALLOC_RECORD_KERNEL_LOAD;
}

static inline enum site_use site_use(const struct ring_event *e)
{
	return is_allocation(e) ? SITE_ALLOC : SITE_FREE;
}

static struct ttalloc_msg_head message_of(const struct ttalloc *t, const struct ring_event *e)
{
	return (struct ttalloc_msg_head){
		.type = e->kind,
		.device_id = e->device,
		.buffer_type = e->type,
		.buffer_id = e->address,
		.size = e->size,
		.process_id = t->pid,
		.timestamp = is_allocation(e) ? now_epoch() : 0,
	};
}

/* After a record that was published, or found no room: what may be due. */
static __attribute__((noinline, cold)) void attend(struct ttalloc *t, struct ring_lane *l, bool full, bool nested)
{
	const struct caller c = caller_save();
	const uint32_t attention = atomic_load(l->ring->attention);
	const bool ended = attention & (TTALLOC_ATTENTION_MOVED | TTALLOC_ATTENTION_GONE);
	const uint64_t stamp = ring_stamp(l->ring);

	if (attention & TTALLOC_ATTENTION_WAKE)
		ring_wake(l->ring);
	if (ended || ring_is_due(full ? l->next_full_look : l->next_look, stamp)) {
		ring_looked(l, stamp);
		if (lock_or_not(t, nested || !ended)) {
			look(t);
			unlock(t);
		}
	}
	caller_restore(&c);
}

static inline SITE_WALKS uint32_t site_number(struct ring_lane *l, struct ring_self *self, const uintptr_t *frame,
					      enum site_use use, bool nested)
{
	const struct site_slot *slots = l->ring->sites.slots;
	const uintptr_t *f = frame;
	unsigned left = site_depth;
	uint64_t hash = 0;
	uint32_t number;
	bool walk;

	if (left == 0)
		return 0;
	walk = left > 1 && !atomic_load_explicit(&site_no_walk[use], memory_order_relaxed);
	if (walk && ring_unlikely((uintptr_t)frame < self->stack_low || (uintptr_t)frame >= self->stack_high))
		walk = site_find_stack(self, (uintptr_t)frame);
	do {
		hash = site_mix(hash, site_address(f[1]));
		f = walk ? site_next_frame(f, self->stack_high) : NULL;
	} while (f && --left > 0);
	number = site_lookup(slots, SITE_BITS, site_mixed(hash));
	return ring_likely(number != 0) ? number : site_define(l, self, frame, use, walk, nested);
}

static void drop(struct ttalloc *t, const struct ring_event *e)
{
	if (e)
		atomic_fetch_add(&t->dropped, 1);
}

static void tell_devices(struct ttalloc *t, struct ring_lane *l, bool nested)
{
	struct device *d;

	if (!lock_or_not(t, nested))
		return;
	atomic_store(&t->untold, false);
	for (d = t->devices; d < t->devices + t->device_count; d++) {
		if (!d->told)
			d->told = ring_define(l, TTALLOC_RECORD_DEVICE, (uint32_t)d->number, (const uint8_t *)&d->data,
					      sizeof(d->data));
		if (!d->told)
			atomic_store(&t->untold, true);
	}
	unlock(t);
}

/* A mark passes for an event, with its name for an address. */
static enum ring_result put_mark(struct ttalloc *t, struct ring_lane *l, const struct ring_event *e)
{
	if (ring_define(l, TTALLOC_RECORD_MARK, 0, (const uint8_t *)(uintptr_t)e->address, e->size))
		return RING_ATTEND;
	drop(t, e);
	return RING_FULL;
}

/* On a lane that is the thread's: whatever is to be said before, and the event, if there is one. */
static enum ring_result put_all(struct ttalloc *t, struct ring_binding *b, struct ring_lane *l,
				const struct ring_event *e, const uintptr_t *frame, bool nested)
{
	struct ring_self *self = &ring_self;
	uint32_t site, tag;

	if (b->tag_version != self->tag_version)
		tag_resolve(b, l, self, nested);
	tag = b->tag_version == self->tag_version ? b->tag : 0;
	if (atomic_load(&t->untold))
		tell_devices(t, l, nested);
	if (!e)
		return RING_ATTEND;
	if (e->kind == TTALLOC_RECORD_MARK)
		return put_mark(t, l, e);
	site = site_number(l, self, frame, site_use(e), nested);
	return ring_put(l, e, site, tag);
}

static void put_bound(struct ttalloc *t, struct ring_binding *b, const struct ring_event *e, const uintptr_t *frame,
		      unsigned depth, bool nested)
{
	struct ring_lane *l = b->lane[depth];
	bool common;
	enum ring_result r;

	if (!l)
		l = b->lane[depth] = ring_claim(b->ring);
	common = !l;
	if (common)
		l = ring_common_lock(b->ring, nested);
	if (!l) {
		drop(t, e);
		return;
	}
	r = put_all(t, b, l, e, frame, nested);
	if (r != RING_PUT)
		attend(t, l, r == RING_FULL, nested);
	if (common)
		ring_common_unlock(b->ring);
}

/* In pieces, which no other message comes between: the lock is held. */
static void send_mark(struct ttalloc *t, const struct ring_event *e)
{
	const uint8_t *name = (const uint8_t *)(uintptr_t)e->address;
	struct ttalloc_msg_head m = {
		.type = TTALLOC_MSG_MARK, .buffer_type = (uint8_t)e->size, .process_id = t->pid };
	uint64_t words[TTALLOC_MARK_PIECE / sizeof(uint64_t)];
	size_t at, n;

	for (at = 0; at < e->size; at += n) {
		n = e->size - at < sizeof(words) ? e->size - at : sizeof(words);
		memset(words, 0, sizeof(words));
		memcpy(words, name + at, n);
		m.device_id = (int32_t)at;
		m.size = words[0];
		m.buffer_id = words[1];
		m.timestamp = words[2];
		uplink_event(&t->uplink, &m);
	}
}

/* The thread is bound to no ring of the instance: binds it, or lets the event go as a message. */
static struct ring_binding *bind_or_send(struct ttalloc *t, const struct ring_event *e, unsigned depth, bool nested)
{
	struct ring_binding *b = NULL;
	struct ttalloc_msg_head m;

	if (!lock_or_not(t, nested)) {
		drop(t, e);
		return NULL;
	}
	collect(t);
	if (depth == 0)
		make_ring(t);
	if (t->ring && depth == 0) {
		b = ring_bind(&ring_self, t->ring);
	} else if (t->ring) {
		drop(t, e);
	} else if (e && e->kind == TTALLOC_RECORD_MARK) {
		send_mark(t, e);
	} else if (e) {
		m = message_of(t, e);
		uplink_event(&t->uplink, &m);
	}
	unlock(t);
	return b;
}

static __attribute__((noinline, cold)) void event_slow(struct ttalloc *t, const struct ring_event *e,
						       const uintptr_t *frame, unsigned depth)
{
	const struct caller c = caller_save();
	struct ring_self *self = &ring_self;
	const bool nested = depth > 0 || self->locks > 0;
	struct ring_binding *b;

	/* First: the log's order is that of the calls, and it has what no server gets. */
	if (detail_on && e)
		detail_event(e, frame);
	if (depth >= RING_DEPTH) {
		drop(t, e);
	} else {
		if (depth == 0)
			ring_unbind_ended(self);
		b = ring_bound(self, atomic_load(&t->ring_id));
		if (!b)
			b = bind_or_send(t, e, depth, nested);
		else if (depth == 0)
			b = ring_front(self, b);
		if (b)
			put_bound(t, b, e, frame, depth, nested);
	}
	if (self->leaving && depth == 0)
		ring_unbind_all(self);
	caller_restore(&c);
}

/*
 * `frame` is that of the public function. The event is passed by value: so it stays in registers until it is in its
 * record.
 */
static inline __attribute__((always_inline)) void event(struct ttalloc *t, struct ring_event e, const uintptr_t *frame)
{
	struct ring_self *self = &ring_self;
	const unsigned depth = event_entered(self);
	struct ring_binding *b = self->bindings;
	struct ring_lane *l = ring_likely(depth < RING_DEPTH) ? b->lane[depth] : NULL;
	enum ring_result r;

	if (ring_likely(l && b->id == atomic_load_explicit(&t->short_id, memory_order_acquire) &&
			b->tag_version == self->tag_version)) {
		const bool nested = depth > 0 || self->locks > 0;

		r = ring_put(l, &e, site_number(l, self, frame, site_use(&e), nested), b->tag);
		if (ring_unlikely(r != RING_PUT))
			attend(t, l, r == RING_FULL, nested);
	} else {
		const struct ring_event stored = e;

		event_slow(t, &stored, frame, depth);
	}
	event_left(self, depth);
}

#define EVENT(k, ...) ((struct ring_event){ .kind = (k), __VA_ARGS__ })
#define FRAME ((const uintptr_t *)__builtin_frame_address(0))

void ttalloc_alloc(struct ttalloc *t, int device, uint8_t type, uint64_t address, uint64_t size)
{
	if (t)
		event(t, EVENT(TTALLOC_RECORD_ALLOC, .device = device, .type = type, .address = address, .size = size),
		      FRAME);
}

void ttalloc_free(struct ttalloc *t, int device, uint64_t address)
{
	if (t)
		event(t, EVENT(TTALLOC_RECORD_FREE, .device = device, .address = address), FRAME);
}

void ttalloc_cb_alloc(struct ttalloc *t, int device, uint64_t address, uint64_t size)
{
	if (t)
		event(t, EVENT(TTALLOC_RECORD_CB_ALLOC, .device = device, .address = address, .size = size), FRAME);
}

void ttalloc_cb_free(struct ttalloc *t, int device, uint64_t address, uint64_t size)
{
	if (t)
		event(t, EVENT(TTALLOC_RECORD_CB_FREE, .device = device, .address = address, .size = size), FRAME);
}

void ttalloc_kernel_load(struct ttalloc *t, int device, uint8_t kernel_class, uint64_t kernel_id, uint64_t size)
{
	if (t)
		event(t, EVENT(TTALLOC_RECORD_KERNEL_LOAD, .device = device, .type = kernel_class, .address = kernel_id,
			       .size = size), FRAME);
}

void ttalloc_kernel_unload(struct ttalloc *t, int device, uint64_t kernel_id, uint64_t size)
{
	if (t)
		event(t, EVENT(TTALLOC_RECORD_KERNEL_UNLOAD, .device = device, .address = kernel_id, .size = size),
		      FRAME);
}

/* The entry of a device, new or not; NULL: there are too many. */
static struct device *device_entry(struct ttalloc *t, int number)
{
	struct device *d;

	for (d = t->devices; d < t->devices + t->device_count; d++)
		if (d->number == number)
			return d;
	if (t->device_count == DEVICES)
		return NULL;
	d->number = number;
	t->device_count++;
	return d;
}

void ttalloc_device(struct ttalloc *t, int device, const struct ttalloc_capacity *capacity)
{
	struct ring_self *self = &ring_self;
	struct device *d;
	struct caller c;
	unsigned depth;

	if (!t)
		return;
	c = caller_save();
	depth = event_entered(self);
	lock(t);
	d = device_entry(t, device);
	if (d) {
		d->data = (struct ttalloc_device_data){
			.dram = capacity->dram,
			.l1 = capacity->l1,
			.arch = capacity->arch,
		};
		d->told = false;
		atomic_store(&t->untold, true);
	}
	unlock(t);
	event_slow(t, NULL, NULL, depth);
	event_left(self, depth);
	caller_restore(&c);
}

static bool is_name(const char *name)
{
	static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	const size_t len = name ? strnlen(name, TTALLOC_MARK_NAME_MAX + 1) : 0;

	return len > 0 && len <= TTALLOC_MARK_NAME_MAX && name[0] != '.' && strspn(name, good) == len;
}

int ttalloc_mark(struct ttalloc *t, const char *name)
{
	struct ring_self *self = &ring_self;
	struct ring_event e;
	unsigned depth;

	if (!is_name(name))
		return -EINVAL;
	if (!t)
		return 0;
	e = (struct ring_event){ .kind = TTALLOC_RECORD_MARK, .address = (uintptr_t)name, .size = strlen(name) };
	depth = event_entered(self);
	event_slow(t, &e, NULL, depth);
	event_left(self, depth);
	return 0;
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

	lock(t);
	collect(t);
	r = uplink_submit(&t->uplink, m, &e->ticket);
	if (r == 0 && e->connection != 0 && e->connection != *connections)
		r = -ECONNRESET;
	e->connection = *connections;
	*fdp = t->uplink.fd;
	unlock(t);
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
		lock(t);
		r = uplink_receive(&t->uplink, e->ticket, answer);
		fd = t->uplink.fd;
		events = t->uplink.backlog.count > 0 ? POLLIN | POLLOUT : POLLIN;
		unlock(t);
		if (r != -EAGAIN)
			return r;
		r = wait_before_next_try(fd, events, e->deadline);
	} while (r == 0);
	return r;
}

static int refuse_answer(struct ttalloc *t)
{
	lock(t);
	uplink_disconnect(&t->uplink);
	unlock(t);
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

/* Of messages and rings. The lock is held. */
static struct ttalloc_counters sum(struct ttalloc *t)
{
	struct ttalloc_counters c = t->uplink.counters;
	uint64_t sent, dropped;
	struct ring *r;

	c.queued = t->uplink.backlog.count;
	c.sent += t->past_sent;
	c.dropped += t->past_dropped + atomic_load(&t->dropped);
	c.rings = t->ring != NULL;
	c.unlogged = detail_lost();
	for (r = t->ring ? t->ring : t->ended; r; r = r == t->ring ? t->ended : r->next) {
		ring_sums(r, &sent, &dropped);
		c.sent += sent;
		c.dropped += dropped;
	}
	return c;
}

/* -EIO if events were lost, or may have been, since this was last asked. */
static int tell_losses(struct ttalloc *t)
{
	const struct caller c = caller_save();
	struct ttalloc_counters counters;
	uint64_t losses;
	int r;

	lock(t);
	counters = sum(t);
	losses = counters.dropped + counters.uncertain;
	r = losses == t->losses_told ? 0 : -EIO;
	t->losses_told = losses;
	unlock(t);
	caller_restore(&c);
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
	struct caller c;

	memset(counters, 0, sizeof(*counters));
	if (!t)
		return;
	c = caller_save();
	lock(t);
	collect(t);
	*counters = sum(t);
	unlock(t);
	caller_restore(&c);
}
