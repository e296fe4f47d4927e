/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * ring.c - see ring.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "client/ring.h"
#include "client/tag.h"

#define NS_PER_S INT64_C(1000000000)
/* Looks whether the server lives are a second apart, and while events are being dropped, about 10 ms. */
#define FULL_LOOKS_PER_LOOK 128

__thread struct ring_self ring_self __attribute__((tls_model("initial-exec"), visibility("hidden")));

_Atomic bool ring_many;

/* The number of no ring, nor of what has none, nor of a program with a detailed log (set_ring_id() of ttalloc.c). */
#define PARKED (UINT64_MAX - 1)

static _Atomic uint32_t threads;  /* that have been bound */
static pthread_key_t thread_key;
static bool have_barrier;
static _Atomic uint64_t last_id;

static int membarrier(int command)
{
	return (int)syscall(SYS_membarrier, command, 0, 0);
}

/* Events of destructors that run later claim a lane for themselves only. */
static void thread_exit(void *arg)
{
	struct ring_self *self = arg;

	self->depth++;
	atomic_signal_fence(memory_order_seq_cst);
	self->leaving = true;
	ring_unbind_all(self);
	tag_free(self);
	atomic_signal_fence(memory_order_seq_cst);
	self->depth--;
}

int ring_setup(void)
{
	have_barrier = membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) == 0;
	return -pthread_key_create(&thread_key, thread_exit);
}

/* --- the memory --- */

static struct ttalloc_lane *lane_shared(const struct ring *r, size_t i)
{
	return (struct ttalloc_lane *)(void *)((uint8_t *)r->shared + TTALLOC_LANE_OFFSET(i));
}

/* Lanes that fit into what is mapped. */
static size_t lanes_mapped(const struct ring *r)
{
	return (r->mapped - TTALLOC_RING_HEAD) / sizeof(struct ttalloc_lane);
}

/* Lanes that may hold records. */
static size_t lanes_used(const struct ring *r)
{
	return atomic_load(&r->used);
}

/*
 * Address space only. In a program that has locked its memory it must stay so: what is mapped without access is not
 * filled, and unlocked before access is given.
 */
static int map_bytes(struct ring *r, int fd, size_t bytes)
{
	void *p;

	p = mmap(NULL, bytes, PROT_NONE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	if (munlock(p, bytes) < 0 || mprotect(p, bytes, PROT_READ | PROT_WRITE) < 0 ||
	    madvise(p, bytes, MADV_DONTFORK) < 0) {
		munmap(p, bytes);
		return -ENOMEM;
	}
	madvise(p, bytes, MADV_DONTDUMP);
	r->shared = p;
	r->mapped = bytes;
	return 0;
}

/* All lanes, or as many as the limit of address space lets in. */
static int map_lanes(struct ring *r, int fd)
{
	size_t lanes;
	int e = -ENOMEM;

	for (lanes = TTALLOC_LANES; lanes >= 2; lanes /= 2) {
		e = map_bytes(r, fd, TTALLOC_LANE_OFFSET(lanes));
		if (e == 0)
			break;
	}
	return e;
}

/* A memory that could shrink would kill us. */
static int check_memory(int fd)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EPERM;
	if (fstat(fd, &st) < 0)
		return -errno;
	return (uint64_t)st.st_size == TTALLOC_RING_SIZE ? 0 : -EINVAL;
}

static int check_header(const struct ttalloc_ring *h)
{
	if (h->magic != TTALLOC_RING_MAGIC || h->version != TTALLOC_RING_VERSION)
		return -EPROTO;
	if (h->clock != TTALLOC_CLOCK_MONOTONIC && !(h->clock == TTALLOC_CLOCK_COUNTER && TTALLOC_HAS_COUNTER))
		return -ENOTSUP;
	return 0;
}

static void unmap(struct ring *r)
{
	if (r->shared)
		munmap(r->shared, r->mapped);
	munmap(r, sizeof(*r));
}

static uint64_t stamp_now(const struct ring *r)
{
	return r->clock == TTALLOC_CLOCK_COUNTER ? ttalloc_ticks_ordered() : ttalloc_clock_monotonic();
}

static void init(struct ring *r, int event_fd, int socket_fd, ino_t socket_inode)
{
	const size_t lanes = lanes_mapped(r);

	r->id = atomic_fetch_add(&last_id, 1) + 1;
	r->attention = &r->shared->attention;
	r->clock = r->shared->clock;
	atomic_store(&r->refs, 1);
	/* Lane 0 is the common one. */
	atomic_store(&r->free_lanes, (lanes == 64 ? UINT64_MAX : (UINT64_C(1) << lanes) - 1) & ~UINT64_C(1));
	r->common = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	r->defining = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	atomic_store(&r->event_refs, 1);
	r->event_fd = event_fd;
	r->socket_fd = socket_fd;
	r->socket_inode = socket_inode;
	r->born_stamp = stamp_now(r);
	r->born_monotonic = uplink_clock();
	atomic_store(&r->shared->barrier, have_barrier);
}

int ring_new(struct ring **rp, const int offer[2], int socket_fd, ino_t socket_inode)
{
	struct ring *r;
	int e;

	e = check_memory(offer[0]);
	if (e < 0)
		return e;
	r = mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r == MAP_FAILED)
		return -ENOMEM;
	e = map_lanes(r, offer[0]);
	if (e == 0)
		e = check_header(r->shared);
	if (e < 0) {
		unmap(r);
		return e;
	}
	init(r, offer[1], socket_fd, socket_inode);
	*rp = r;
	return 0;
}

void ring_unref(struct ring *r)
{
	if (atomic_fetch_sub(&r->refs, 1) == 1)
		unmap(r);
}

void ring_self_forked(void)
{
	memset(ring_self.bindings, 0, sizeof(ring_self.bindings));
	ring_self.counted = false;
	atomic_store(&threads, 0);
	atomic_store(&ring_many, false);
}

void ring_self_park(struct ring_self *self)
{
	size_t i;

	for (i = 0; i < RING_BINDINGS; i++) {
		self->parked[i] = self->bindings[i].id;
		atomic_signal_fence(memory_order_seq_cst);
		self->bindings[i].id = PARKED;
	}
}

void ring_self_unpark(struct ring_self *self)
{
	size_t i;

	for (i = 0; i < RING_BINDINGS; i++)
		self->bindings[i].id = self->parked[i];
}

void ring_forked(struct ring *r)
{
	if (atomic_load(&r->event_refs) > 0 && uplink_is_socket(r->socket_fd, r->socket_inode))
		close(r->event_fd);
	if (ring_self.depth == 0)
		munmap(r, sizeof(*r));
	/* A signal handler that has interrupted an event forked: that event is still to be written somewhere. */
	else
		mmap(r->shared, r->mapped, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

/* --- the end of a ring --- */

/* The clocks at one moment, to tell what time of day a stamp was. */
struct calibration {
	uint64_t stamp;
	uint64_t epoch;
	double ns_per_tick;
};

static struct calibration calibrate(const struct ring *r)
{
	struct calibration c = { .stamp = stamp_now(r), .ns_per_tick = 1 };
	const int64_t elapsed = uplink_clock() - r->born_monotonic;
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	c.epoch = (uint64_t)ts.tv_sec * (uint64_t)NS_PER_S + (uint64_t)ts.tv_nsec;
	if (r->clock == TTALLOC_CLOCK_COUNTER && c.stamp > r->born_stamp)
		c.ns_per_tick = (double)elapsed / (double)(c.stamp - r->born_stamp);
	return c;
}

static uint64_t epoch_of(const struct calibration *c, uint64_t stamp)
{
	return c->epoch - (uint64_t)((double)(c->stamp > stamp ? c->stamp - stamp : 0) * c->ns_per_tick);
}

static const struct ttalloc_record *record_at(const struct ttalloc_lane *lane, uint64_t pos)
{
	const uint16_t segment = lane->order[pos / TTALLOC_SEGMENT_RECORDS % TTALLOC_SEGMENTS];

	return &lane->segment[segment % TTALLOC_SEGMENTS][pos % TTALLOC_SEGMENT_RECORDS];
}

/* What is left of one lane. */
struct rest {
	const struct ttalloc_lane *lane;
	uint64_t pos;
	uint64_t end;
	uint64_t overwritten;
};

static bool is_event(const struct ttalloc_record *m)
{
	return m->kind < TTALLOC_RECORD_MODULE;
}

/*
 * Steps over definitions: their numbers mean nothing elsewhere. And over what has been written again: a server that was
 * killed had given it back, so it had read it, but not yet said that it is booked. NULL at the end.
 */
static const struct ttalloc_record *rest_first(struct rest *x)
{
	const struct ttalloc_record *m;

	for (; x->pos < x->end; x->pos++) {
		m = record_at(x->lane, x->pos);
		if (m->seq != (uint32_t)x->pos)
			x->overwritten++;
		else if (is_event(m))
			return m;
	}
	return NULL;
}

static void find_rests(struct ring *r, struct rest rests[TTALLOC_LANES], size_t n)
{
	uint64_t head;
	size_t i;

	for (i = 0; i < n; i++) {
		const struct ttalloc_lane *lane = lane_shared(r, i);

		rests[i] = (struct rest){ .lane = lane, .end = atomic_load(&lane->tail), .pos = r->lanes[i].moved };
		head = atomic_load(&lane->head);
		if (head > rests[i].pos)
			rests[i].pos = head < rests[i].end ? head : rests[i].end;
		/* More than can be there, also with what was given back early: somebody else wrote the tail. */
		if (rests[i].end - rests[i].pos > 2 * TTALLOC_LANE_RECORDS)
			rests[i].end = rests[i].pos;
		r->lanes[i].moved = rests[i].end;
	}
}

/* The oldest event of all rests, in rests[*ip]; NULL: there is none. */
static const struct ttalloc_record *oldest(struct rest *rests, size_t n, size_t *ip)
{
	const struct ttalloc_record *m, *found = NULL;
	size_t i;

	for (i = 0; i < n; i++) {
		m = rest_first(&rests[i]);
		if (m && (!found || m->stamp < found->stamp)) {
			found = m;
			*ip = i;
		}
	}
	return found;
}

static struct ttalloc_msg_head head_of(const struct ttalloc_record *m, const struct calibration *c, pid_t pid)
{
	const bool dated = m->kind == TTALLOC_RECORD_ALLOC || m->kind == TTALLOC_RECORD_CB_ALLOC ||
			   m->kind == TTALLOC_RECORD_KERNEL_LOAD;

	return (struct ttalloc_msg_head){
		.type = m->kind,
		.device_id = m->event.device,
		.buffer_type = m->event.type,
		.buffer_id = m->event.address,
		.size = m->event.size,
		.process_id = pid,
		.timestamp = dated ? epoch_of(c, m->stamp) : 0,
	};
}

static void requeue(struct ring *r, struct uplink *u, pid_t pid)
{
	const size_t n = lanes_used(r);
	const struct ttalloc_record *m;
	struct rest rests[TTALLOC_LANES];
	struct calibration c;
	struct ttalloc_msg_head head;
	size_t i = 0;

	c = calibrate(r);
	find_rests(r, rests, n);
	while ((m = oldest(rests, n, &i))) {
		head = head_of(m, &c, pid);
		uplink_requeue(u, &head);
		r->lanes[i].requeued++;
		rests[i].pos++;
	}
	for (i = 0; i < n; i++)
		u->counters.uncertain += rests[i].overwritten;
}

/* Events that nobody has said to be booked. */
static uint64_t unbooked(struct ring *r)
{
	const size_t n = lanes_used(r);
	struct rest rests[TTALLOC_LANES];
	uint64_t events = 0;
	size_t i;

	find_rests(r, rests, n);
	for (i = 0; i < n; i++) {
		for (; rest_first(&rests[i]); rests[i].pos++)
			events++;
		events += rests[i].overwritten;
	}
	return events;
}

static void event_unref(struct ring *r, bool ours)
{
	if (atomic_fetch_sub(&r->event_refs, 1) == 1 && ours)
		close(r->event_fd);
}

uint64_t ring_end(struct ring *r, bool final, struct uplink *u, pid_t pid)
{
	uint64_t uncertain = 0;

	r->final = final;
	atomic_store(&r->ended, true);
	if (final) {
		/* A thread whose record is not seen below sees this when it has published. */
		atomic_fetch_or(r->attention, TTALLOC_ATTENTION_MOVED);
		if (have_barrier)
			membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED);
		requeue(r, u, pid);
	} else {
		uncertain = unbooked(r);
	}
	uplink_descriptors_lock();
	event_unref(r, uplink_is_socket(r->socket_fd, r->socket_inode));
	uplink_descriptors_unlock();
	return uncertain;
}

bool ring_collect(struct ring *r, struct uplink *u, pid_t pid)
{
	const bool unused = atomic_load(&r->refs) == 1;

	if (r->final)
		requeue(r, u, pid);
	return unused;
}

void ring_sums(const struct ring *r, uint64_t *sentp, uint64_t *droppedp)
{
	const size_t n = lanes_used(r);
	size_t i;

	*sentp = *droppedp = 0;
	for (i = 0; i < n; i++) {
		const struct ttalloc_lane *lane = lane_shared(r, i);
		const struct ring_lane *l = &r->lanes[i];

		*sentp += atomic_load(&lane->tail) - atomic_load(&l->defined) - l->requeued;
		*droppedp += atomic_load(&lane->dropped);
	}
}

/* --- threads --- */

struct ring_binding *ring_bound(struct ring_self *self, uint64_t id)
{
	size_t i;

	for (i = 0; i < RING_BINDINGS && id != 0; i++)
		if (self->bindings[i].id == id)
			return &self->bindings[i];
	return NULL;
}

static void give_back(struct ring *r, const struct ring_lane *l)
{
	atomic_fetch_or(&r->free_lanes, UINT64_C(1) << (l - r->lanes));
}

/* A signal handler that comes in between finds a binding that matches nothing. */
static void unbind(struct ring_binding *b)
{
	struct ring *r = b->ring;
	size_t i;

	if (!r)
		return;
	b->id = 0;
	atomic_signal_fence(memory_order_seq_cst);
	b->ring = NULL;
	for (i = 0; i < RING_DEPTH; i++) {
		if (b->lane[i])
			give_back(r, b->lane[i]);
		b->lane[i] = NULL;
	}
	ring_unref(r);
}

void ring_unbind_ended(struct ring_self *self)
{
	size_t i;

	for (i = 0; i < RING_BINDINGS; i++)
		if (self->bindings[i].ring && atomic_load(&self->bindings[i].ring->ended))
			unbind(&self->bindings[i]);
}

void ring_unbind_all(struct ring_self *self)
{
	size_t i;

	for (i = 0; i < RING_BINDINGS; i++)
		unbind(&self->bindings[i]);
}

/* The copy keeps its place until the original's number is away: a handler must never meet it twice. */
static void move_binding(struct ring_binding *to, struct ring_binding *from)
{
	struct ring_binding b = *from;

	from->id = 0;
	atomic_signal_fence(memory_order_seq_cst);
	*from = (struct ring_binding){ 0 };
	to->ring = b.ring;
	memcpy(to->lane, b.lane, sizeof(b.lane));
	to->tag = b.tag;
	to->tag_version = b.tag_version;
	atomic_signal_fence(memory_order_seq_cst);
	to->id = b.id;
}

struct ring_binding *ring_front(struct ring_self *self, struct ring_binding *b)
{
	struct ring_binding *first = self->bindings, moved = { 0 };

	if (b == first)
		return b;
	/* What was published in the other ring must not wait in this processor while an event here takes its stamp. */
	atomic_thread_fence(memory_order_seq_cst);
	move_binding(&moved, b);
	move_binding(b, first);
	move_binding(first, &moved);
	return first;
}

struct ring_binding *ring_bind(struct ring_self *self, struct ring *r)
{
	struct ring_binding *b = self->bindings;
	size_t i;

	/* If this fails, the thread's lanes are lost when it ends; others share what there is. */
	if (!self->watched)
		self->watched = pthread_setspecific(thread_key, self) == 0;
	unbind(&b[RING_BINDINGS - 1]);
	for (i = RING_BINDINGS - 1; i > 0; i--)
		if (b[i - 1].ring)
			move_binding(&b[i], &b[i - 1]);
	atomic_fetch_add(&r->refs, 1);
	if (!self->counted && atomic_fetch_add(&threads, 1) > 0)
		atomic_store(&ring_many, true);
	self->counted = true;
	if (b[1].ring)
		atomic_store(&ring_many, true);
	b->ring = r;
	b->tag = 0;
	b->tag_version = 0;
	atomic_signal_fence(memory_order_seq_cst);
	b->id = r->id;
	return b;
}

static void raise(_Atomic uint32_t *p, uint32_t n)
{
	uint32_t old = atomic_load(p);

	while (old < n && !atomic_compare_exchange_weak(p, &old, n))
		;
}

static struct ring_lane *lane_ready(struct ring *r, unsigned i)
{
	struct ring_lane *l = &r->lanes[i];

	if (l->ring)
		return l;
	l->shared = lane_shared(r, i);
	l->ring = r;
	/* Not at once: the connection has just been used. */
	ring_looked(l, ring_stamp(r));
	raise(&r->used, i + 1);
	raise(&r->shared->lanes, i + 1);
	return l;
}

struct ring_lane *ring_claim(struct ring *r)
{
	uint64_t free_lanes = atomic_load(&r->free_lanes);

	do
		if (free_lanes == 0)
			return NULL;
	while (!atomic_compare_exchange_weak(&r->free_lanes, &free_lanes, free_lanes & (free_lanes - 1)));
	return lane_ready(r, (unsigned)__builtin_ctzll(free_lanes));
}

struct ring_lane *ring_common_lock(struct ring *r, bool nested)
{
	if (!nested)
		pthread_mutex_lock(&r->common);
	else if (pthread_mutex_trylock(&r->common) != 0)
		return NULL;
	return lane_ready(r, 0);
}

void ring_common_unlock(struct ring *r)
{
	pthread_mutex_unlock(&r->common);
}

/* --- what the hot path leaves aside --- */

void ring_looked(struct ring_lane *l, uint64_t stamp)
{
	const uint64_t period = ring_look_period(l->ring->clock);

	l->next_look = stamp + period;
	l->next_full_look = stamp + period / FULL_LOOKS_PER_LOOK;
}

/* An event descriptor has no type. Files, pipes and sockets, which the program may have in its place, have one. */
static bool has_no_type(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == 0;
}

void ring_wake(struct ring *r)
{
	static const uint64_t one = 1;
	uint32_t refs = atomic_load(&r->event_refs);
	bool ours;

	do
		if (refs == 0)
			return;
	while (!atomic_compare_exchange_weak(&r->event_refs, &refs, refs + 1));
	/* A program that has closed our descriptors has closed all of them; the socket is the one that can be told. */
	ours = uplink_is_socket(r->socket_fd, r->socket_inode) && has_no_type(r->event_fd);
	while (ours && write(r->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	event_unref(r, ours);
}

static void collect_freed(struct ring_lane *l)
{
	const uint64_t freed = atomic_load_explicit(&l->shared->freed_count, memory_order_acquire);

	for (; l->collected < freed && l->stacked < TTALLOC_SEGMENTS; l->collected++)
		l->stack[l->stacked++] = l->shared->freed[l->collected % TTALLOC_SEGMENTS] % TTALLOC_SEGMENTS;
}

static bool next_segment(struct ring_lane *l)
{
	uint16_t segment;

	collect_freed(l);
	if (l->stacked > 0)
		segment = l->stack[--l->stacked];
	else if (l->fresh < TTALLOC_SEGMENTS)
		segment = (uint16_t)l->fresh++;
	else
		return false;
	l->shared->order[l->pos / TTALLOC_SEGMENT_RECORDS % TTALLOC_SEGMENTS] = segment;
	l->segment = l->shared->segment[segment];
	l->limit = l->pos + TTALLOC_SEGMENT_RECORDS;
	return true;
}

bool ring_extend(struct ring_lane *l)
{
	_Atomic uint64_t *dropped = &l->shared->dropped;

	if (next_segment(l))
		return true;
	atomic_store_explicit(dropped, atomic_load_explicit(dropped, memory_order_relaxed) + 1, memory_order_relaxed);
	return false;
}

static uint64_t room(const struct ring_lane *l)
{
	return l->limit - l->pos + (uint64_t)TTALLOC_SEGMENT_RECORDS * (l->stacked + TTALLOC_SEGMENTS - l->fresh);
}

bool ring_has_room(struct ring_lane *l, uint64_t records)
{
	if (room(l) < records)
		collect_freed(l);
	return room(l) >= records;
}

static struct ttalloc_record *append(struct ring_lane *l, uint8_t kind, uint64_t stamp)
{
	struct ttalloc_record *r;

	if (l->pos == l->limit)
		next_segment(l);
	r = &l->segment[l->pos % TTALLOC_SEGMENT_RECORDS];
	*r = (struct ttalloc_record){ .stamp = stamp, .kind = kind, .seq = (uint32_t)l->pos };
	l->pos++;
	return r;
}

bool ring_define(struct ring_lane *l, uint8_t kind, uint32_t number, const uint8_t *bytes, size_t length)
{
	const size_t first = sizeof(((struct ttalloc_record_definition *)0)->bytes);
	const size_t more = sizeof(((struct ttalloc_record *)0)->more);
	const uint64_t records = 1 + (length > first ? (length - first + more - 1) / more : 0);
	const uint64_t stamp = ring_stamp(l->ring);
	struct ttalloc_record *r;
	size_t done, n;

	if (!ring_has_room(l, records))
		return false;
	r = append(l, kind, stamp);
	r->definition.number = number;
	r->definition.length = (uint32_t)length;
	done = length < first ? length : first;
	memcpy(r->definition.bytes, bytes, done);
	for (; done < length; done += n) {
		n = length - done < more ? length - done : more;
		memcpy(append(l, TTALLOC_RECORD_MORE, stamp)->more, bytes + done, n);
	}
	atomic_fetch_add_explicit(&l->defined, records, memory_order_relaxed);
	atomic_store_explicit(&l->shared->tail, l->pos, memory_order_release);
	return true;
}
