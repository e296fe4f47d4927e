/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ring.c - see ring.h. One round: two looks at all lanes of the active rings, a merge of what they found, booking.
 */
#include "tracker/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "client/ttalloc-proto.h"
#include "tracker/site.h"

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define POLL_NS (RING_POLL_US * NS_PER_US)
#define QUIET_NS (RING_QUIET_MS * NS_PER_MS)
#define WAKES 64
#define DEFINITION_COST 16  /* events in whose time a record of a definition is taken, at worst */
#define MARK_COST 256       /* the same of a mark */
#define CLOCKSOURCE "/sys/devices/system/clocksource/clocksource0/current_clocksource"

/* Numbers of a connection's definitions, as the registry knows them. */
struct ring_numbers {
	uint32_t *number;  /* NULL: none yet */
	uint32_t max;
};

enum ring_state {
	RING_ACTIVE,
	RING_ARMED,
	RING_BROKEN,
};

struct ring {
	struct ring_set *set;
	struct ring_owner owner;
	uint32_t uid;
	struct ttalloc_ring *memory;
	int fd;
	struct waste waste;           /* the memory, when the ring has ended */
	int wake_fd;
	enum ring_state state;
	bool arming;
	uint32_t lanes;
	uint64_t last;                /* when a record was taken, monotonic ns */
	struct ring *next;            /* in the list of active ones */
	struct ring *prev;
	struct ring_numbers modules;
	struct ring_numbers sites;
	struct ring_numbers tags;
	struct lane lane[TTALLOC_LANES];
};

/* ---- how many a user has ---- */

struct ring_user {
	uint32_t uid;
	uint32_t rings;
	UT_hash_handle hh;
};

static struct ring_user *find_user(const struct ring_set *set, uint32_t uid)
{
	struct ring_user *u;

	HASH_FIND(hh, set->users, &uid, sizeof(uid), u);
	return u;
}

/* A ring takes half a megabyte of us as soon as its client says that all lanes are in use. 0, -EDQUOT or -ENOMEM. */
static int user_take(struct ring_set *set, uint32_t uid)
{
	struct ring_user *u = find_user(set, uid);

	if (!u) {
		u = calloc(1, sizeof(*u));
		if (!u)
			return -ENOMEM;
		u->uid = uid;
		HASH_ADD(hh, set->users, uid, sizeof(u->uid), u);
		if (!find_user(set, uid)) {
			free(u);
			return -ENOMEM;
		}
	}
	if (uid != 0 && u->rings >= RING_USER_MAX)
		return -EDQUOT;
	u->rings++;
	return 0;
}

static void user_return(struct ring_set *set, uint32_t uid)
{
	struct ring_user *u = find_user(set, uid);

	if (--u->rings)
		return;
	HASH_DEL(set->users, u);
	free(u);
}

/* ---- lists ---- */

static void activate(struct ring *r)
{
	struct ring_set *set = r->set;

	r->state = RING_ACTIVE;
	r->prev = NULL;
	r->next = set->active;
	if (r->next)
		r->next->prev = r;
	set->active = r;
}

static void deactivate(struct ring *r, enum ring_state state)
{
	if (r->state == RING_ACTIVE) {
		if (r->next)
			r->next->prev = r->prev;
		if (r->prev)
			r->prev->next = r->next;
		else
			r->set->active = r->next;
	}
	r->state = state;
}

static void set_period(struct ring_set *set, uint64_t ns)
{
	struct itimerspec t = { .it_interval = { .tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S) } };

	if (set->period == ns)
		return;
	set->period = ns;
	t.it_value = t.it_interval;
	(void)timerfd_settime(set->timer.fd, 0, &t, NULL);
}

static void break_ring(struct ring *r, const char *why)
{
	if (r->state == RING_BROKEN)
		return;
	deactivate(r, RING_BROKEN);
	/* Whoever gets what is left after this must not get what was booked. */
	for (uint32_t i = 0; i < r->lanes; i++)
		lane_publish(&r->lane[i]);
	r->owner.broken(r->owner.data, why);
}

/* ---- definitions ---- */

static uint32_t number_of(const struct ring_numbers *n, uint64_t own)
{
	return n->number && own <= n->max ? n->number[own] : 0;
}

/* False: a number that the contract does not have. Without memory the definition is lost, as without room. */
static bool number_set(struct ring_numbers *n, uint32_t own, uint32_t number)
{
	if (own < 1 || own > n->max)
		return false;
	if (!n->number)
		n->number = calloc((size_t)n->max + 1, sizeof(*n->number));
	if (n->number)
		n->number[own] = number;
	return true;
}

static bool define_module(struct ring *r, uint32_t number, const uint8_t *bytes, size_t len)
{
	size_t id;

	if (len < 1 || bytes[0] > len - 1)
		return false;
	id = bytes[0];
	return number_set(&r->modules, number,
			  registry_module(r->set->ingest->registry, bytes + 1, id, (const char *)bytes + 1 + id,
					  len - 1 - id, r->uid));
}

static bool define_site(struct ring *r, uint32_t number, const uint8_t *bytes, size_t len)
{
	struct site_frame frame[TTALLOC_FRAMES_MAX];
	struct ttalloc_site_head head;
	uint64_t word;

	if (len < sizeof(head))
		return false;
	memcpy(&head, bytes, sizeof(head));
	if (head.frames < 1 || head.frames > TTALLOC_FRAMES_MAX || len != sizeof(head) + head.frames * sizeof(word))
		return false;
	for (unsigned i = 0; i < head.frames; i++) {
		memcpy(&word, bytes + sizeof(head) + i * sizeof(word), sizeof(word));
		frame[i] = (struct site_frame){
			.module = number_of(&r->modules, word >> TTALLOC_FRAME_MODULE_SHIFT),
			.offset = word & ((UINT64_C(1) << TTALLOC_FRAME_MODULE_SHIFT) - 1),
		};
	}
	word = registry_site(r->set->ingest->registry, head.method, head.truncated, frame, head.frames, r->uid);
	if (word && r->set->sited)
		r->set->sited(r->set->data, (uint32_t)word, frame, r->owner.process);
	return number_set(&r->sites, number, (uint32_t)word);
}

static bool define_tag(struct ring *r, uint32_t number, const uint8_t *bytes, size_t len)
{
	if (len < 1 || len > TTALLOC_NAME_MAX)
		return false;
	return number_set(&r->tags, number,
			  registry_tag(r->set->ingest->registry, (const char *)bytes, len, r->uid));
}

static bool define_device(struct ring *r, uint32_t number, const uint8_t *bytes, size_t len)
{
	struct ttalloc_device_data d;

	if (len != sizeof(d))
		return false;
	memcpy(&d, bytes, sizeof(d));
	ingest_device(r->set->ingest, r->owner.process, number, d.dram, d.l1, d.arch, r->set->now);
	return true;
}

static bool define(struct ring *r, uint8_t kind, uint32_t number, const uint8_t *bytes, size_t len)
{
	switch (kind) {
	case TTALLOC_RECORD_MODULE:
		return define_module(r, number, bytes, len);
	case TTALLOC_RECORD_SITE:
		return define_site(r, number, bytes, len);
	case TTALLOC_RECORD_TAG:
		return define_tag(r, number, bytes, len);
	default:
		return define_device(r, number, bytes, len);
	}
}

static void flush(struct ring_set *set)
{
	ingest_events(set->ingest, set->batch, set->batched, set->now);
	set->batched = 0;
}

/* Behind the events that were taken before it. */
static bool take_mark(struct ring *r, uint64_t stamp, const char *name, size_t len)
{
	struct ring_set *set = r->set;

	if (len < 1 || len > TTALLOC_MARK_NAME_MAX)
		return false;
	flush(set);
	ingest_mark(set->ingest, r->owner.process, name, len, stamp_time(&set->scale, stamp));
	return true;
}

/* The records that follow the first one of a definition were published with it. Returns as take(). */
static uint64_t take_definition(struct ring *r, struct lane *l, const struct ttalloc_record *first)
{
	const struct ttalloc_record_definition *d = &first->definition;
	uint8_t bytes[TTALLOC_DEFINITION_MAX];
	struct ttalloc_record more;
	uint64_t cost = DEFINITION_COST;
	size_t have, piece;

	if (d->length > sizeof(bytes))
		return 0;
	have = d->length < sizeof(d->bytes) ? d->length : sizeof(d->bytes);
	memcpy(bytes, d->bytes, have);
	for (; have < d->length; have += piece, cost += DEFINITION_COST) {
		if (l->pos == l->second || lane_take(l, &more) < 0 || more.kind != TTALLOC_RECORD_MORE)
			return 0;
		piece = d->length - have < sizeof(more.more) ? d->length - have : sizeof(more.more);
		memcpy(bytes + have, more.more, piece);
	}
	if (first->kind == TTALLOC_RECORD_MARK)
		return take_mark(r, first->stamp, (const char *)bytes, d->length) ? MARK_COST : 0;
	return define(r, first->kind, d->number, bytes, d->length) ? cost : 0;
}

/* ---- events ---- */

static bool is_event(uint8_t kind)
{
	return kind == TTALLOC_RECORD_ALLOC || kind == TTALLOC_RECORD_FREE ||
	       (kind >= TTALLOC_RECORD_CB_ALLOC && kind <= TTALLOC_RECORD_KERNEL_UNLOAD);
}

static void take_event(struct ring *r, const struct ttalloc_record *record)
{
	struct ring_set *set = r->set;

	set->batch[set->batched++] = (struct event){
		.type = record->kind,
		.wire_type = record->event.type,
		.dialect = EVENT_RING,
		.device = record->event.device,
		.process = r->owner.process,
		.address = record->event.address,
		.size = record->event.size,
		.time = stamp_time(&set->scale, record->stamp),
		.site = number_of(&r->sites, record->event.site),
		.tag = number_of(&r->tags, record->event.tag),
	};
	if (set->batched == RING_BATCH)
		flush(set);
}

/* Takes what stands next in the lane. Returns as how many events it counts; 0: nonsense. */
static uint64_t take(struct ring *r, struct lane *l)
{
	struct ttalloc_record record;

	if (lane_take(l, &record) < 0)
		return 0;
	if (is_event(record.kind)) {
		take_event(r, &record);
		return 1;
	}
	if (record.kind < TTALLOC_RECORD_MODULE || record.kind > TTALLOC_RECORD_MARK)
		return 0;
	return take_definition(r, l, &record);
}

/* ---- the merge: a heap of lanes ---- */

static void sift_down(struct ring_set *set, size_t at)
{
	struct ring_source moving = set->source[at];
	size_t child;

	while ((child = 2 * at + 1) < set->sources) {
		if (child + 1 < set->sources && set->source[child + 1].stamp < set->source[child].stamp)
			child++;
		if (moving.stamp <= set->source[child].stamp)
			break;
		set->source[at] = set->source[child];
		at = child;
	}
	set->source[at] = moving;
}

static void drop_top(struct ring_set *set)
{
	set->source[0] = set->source[--set->sources];
	if (set->sources)
		sift_down(set, 0);
}

/* The stamp up to which the first lane of the heap may go on before another one's turn comes. */
static uint64_t turn_of_others(const struct ring_set *set)
{
	uint64_t stamp = UINT64_MAX;

	for (size_t i = 1; i < 3 && i < set->sources; i++)
		if (set->source[i].stamp < stamp)
			stamp = set->source[i].stamp;
	return stamp;
}

/* Takes records of the first lane until another one's turn comes; returns what they count. */
static uint64_t take_run(struct ring_set *set, uint64_t bound, uint64_t limit)
{
	struct ring_source *top = &set->source[0];
	uint64_t others = turn_of_others(set), taken = 0, cost, stamp;

	do {
		cost = take(top->ring, top->lane);
		if (!cost) {
			break_ring(top->ring, "a record that makes no sense");
			drop_top(set);
			return taken;
		}
		taken += cost;
		if (!lane_peek(top->lane, bound, &stamp)) {
			drop_top(set);
			return taken;
		}
		top->stamp = stamp;
	} while (stamp <= others && taken < limit);
	sift_down(set, 0);
	return taken;
}

/* Until `limit` is taken; if there is one, also no longer than RING_TURN_NS, as a new buffer costs much more than an
 * old one. */
static void merge(struct ring_set *set, uint64_t bound, uint64_t limit)
{
	uint64_t until = limit == UINT64_MAX ? UINT64_MAX : loop_monotonic() + RING_TURN_NS;
	uint64_t run = limit == UINT64_MAX ? UINT64_MAX : RING_BATCH;
	uint64_t taken = 0;

	for (size_t i = set->sources / 2; i-- > 0;)
		sift_down(set, i);
	while (set->sources && taken < limit && (until == UINT64_MAX || loop_monotonic() < until)) {
		if (set->source[0].ring->state == RING_BROKEN)
			drop_top(set);
		else
			taken += take_run(set, bound, run);
	}
	flush(set);
}

/* ---- one round ---- */

static uint64_t counter(const struct ring_set *set)
{
	return set->clock == TTALLOC_CLOCK_COUNTER ? ttalloc_ticks_ordered() : ttalloc_clock_monotonic();
}

/* Lanes that have come into use since the last look. */
static bool meet_lanes(struct ring *r)
{
	uint32_t n = atomic_load_explicit(&r->memory->lanes, memory_order_acquire);

	if (n < r->lanes || n > TTALLOC_LANES)
		return false;
	for (; r->lanes < n; r->lanes++)
		r->lane[r->lanes].memory =
			(struct ttalloc_lane *)(void *)((char *)r->memory + TTALLOC_LANE_OFFSET(r->lanes));
	return true;
}

static void look(struct ring *r, int (*lane_look)(struct lane *l))
{
	if (!meet_lanes(r)) {
		break_ring(r, "a number of lanes that makes no sense");
		return;
	}
	for (uint32_t i = 0; i < r->lanes; i++)
		if (lane_look(&r->lane[i]) < 0) {
			break_ring(r, "a position that makes no sense");
			return;
		}
}

static void look_all(struct ring_set *set, int (*lane_look)(struct lane *l))
{
	struct ring *next;

	for (struct ring *r = set->active; r; r = next) {
		next = r->next;
		look(r, lane_look);
	}
}

/* The client of a ring has written to its eventfd. */
static void wake(struct ring *r)
{
	if (r->state != RING_ARMED)
		return;
	r->set->armed--;
	activate(r);
	atomic_fetch_and(&r->memory->attention, ~(uint32_t)TTALLOC_ATTENTION_WAKE);
	r->last = loop_monotonic();
	set_period(r->set, POLL_NS);
}

/* Room for all lanes of the active rings. False: no memory. */
static bool make_room(struct ring_set *set)
{
	struct ring_source *bigger;
	size_t lanes = 0;

	for (const struct ring *r = set->active; r; r = r->next)
		lanes += r->lanes;
	if (lanes <= set->sources_max)
		return true;
	bigger = realloc(set->source, 2 * lanes * sizeof(*bigger));
	if (!bigger)
		return false;
	set->source = bigger;
	set->sources_max = 2 * lanes;
	return true;
}

static void collect(struct ring_set *set, uint64_t bound)
{
	set->sources = 0;
	for (struct ring *r = set->active; r; r = r->next)
		for (uint32_t i = 0; i < r->lanes; i++) {
			struct ring_source s = { .ring = r, .lane = &r->lane[i] };

			lane_age(s.lane, bound);
			if (lane_peek(s.lane, bound, &s.stamp))
				set->source[set->sources++] = s;
		}
}

/* Tells the clients how far we are, and hears what they had no room for. Returns whether the ring had anything. */
static bool account(struct ring *r)
{
	struct ring_set *set = r->set;
	uint64_t dropped = 0;
	bool moved = false;

	for (uint32_t i = 0; i < r->lanes; i++) {
		moved |= r->lane[i].head != r->lane[i].pos;
		lane_publish(&r->lane[i]);
		dropped += lane_newly_dropped(&r->lane[i]);
	}
	if (dropped)
		ingest_lost(set->ingest, r->owner.process, dropped, set->now);
	return moved || dropped;
}

/* Rings that sleep and have had an event are active again. A ring that is reported goes to the end of the kernel's
 * queue, so as many calls as all rings would fill hear everyone who was there before: clients that never stop writing
 * do not keep us. */
static void hear_wakes(struct ring_set *set)
{
	struct epoll_event woken[WAKES];
	uint64_t calls = set->info->rings / WAKES + 1;
	int n;

	do {
		n = epoll_wait(set->wakes.fd, woken, WAKES, 0);
		for (int i = 0; i < n; i++)
			wake(woken[i].data.ptr);
	} while (n == WAKES && --calls);
}

static void ask_sleepers(struct ring_set *set)
{
	if (set->armed)
		hear_wakes(set);
}

/* Books what is published, about `limit` events of it. */
static void book(struct ring_set *set, uint64_t limit)
{
	struct stamp_anchor now;

	ask_sleepers(set);
	if (!set->active)
		return;
	look_all(set, lane_look_first);
	now.ticks = counter(set);
	now.monotonic = loop_monotonic();
	now.real = loop_now();
	stamp_anchor(&set->scale, &now);
	set->now = now.real;
	ask_sleepers(set);
	ttalloc_hold_loads();
	look_all(set, lane_look_second);
	if (!make_room(set))
		return;
	collect(set, now.ticks);
	merge(set, now.ticks, limit);
	for (struct ring *r = set->active; r; r = r->next)
		if (account(r))
			r->last = now.monotonic;
}

/* ---- silence ---- */

/* Whether something was published that was not taken yet. */
static bool has_news(struct ring *r)
{
	if (atomic_load_explicit(&r->memory->lanes, memory_order_acquire) != r->lanes)
		return true;
	for (uint32_t i = 0; i < r->lanes; i++)
		if (atomic_load_explicit(&r->lane[i].memory->tail, memory_order_acquire) != r->lane[i].pos)
			return true;
	return false;
}

static void sleep_on(struct ring *r)
{
	deactivate(r, RING_ARMED);
	r->set->armed++;
}

static bool barrier(int command)
{
	return syscall(SYS_membarrier, command, 0, 0) >= 0;
}

/* Asks clients that have been silent to wake us; see client/ttalloc-ring.h, point 3. */
static void arm(struct ring_set *set, uint64_t now)
{
	struct ring *r, *next;
	bool any = false;

	for (r = set->active; r; r = r->next) {
		r->arming = now - r->last >= QUIET_NS && atomic_load(&r->memory->barrier);
		if (r->arming)
			atomic_fetch_or(&r->memory->attention, TTALLOC_ATTENTION_WAKE);
		any |= r->arming;
	}
	if (any)
		set->can_arm = barrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED);
	for (r = set->active; r && any; r = next) {
		next = r->next;
		if (!r->arming)
			continue;
		if (!set->can_arm || has_news(r))
			atomic_fetch_and(&r->memory->attention, ~(uint32_t)TTALLOC_ATTENTION_WAKE);
		else
			sleep_on(r);
	}
}

static void pace(struct ring_set *set)
{
	uint64_t now = loop_monotonic();
	bool busy = false;

	if (set->can_arm)
		arm(set, now);
	for (const struct ring *r = set->active; r && !busy; r = r->next)
		busy = now - r->last < QUIET_NS;
	set_period(set, busy ? POLL_NS : set->active ? QUIET_NS : 0);
}

static void timer_ready(struct loop_source *s, uint32_t events)
{
	struct ring_set *set = loop_owner(s, struct ring_set, timer);
	uint64_t expirations;

	if (read(s->fd, &expirations, sizeof(expirations)) < 0)
		return;
	book(set, RING_TURN);
	pace(set);
}

static void wakes_ready(struct loop_source *s, uint32_t events)
{
	struct ring_set *set = loop_owner(s, struct ring_set, wakes);

	/* Also of rings that do not sleep: nobody else reads those. */
	hear_wakes(set);
	book(set, RING_TURN);
}

void ring_set_drain(struct ring_set *set)
{
	book(set, UINT64_MAX);
}

static void drain(struct loop_drainer *d)
{
	ring_set_drain(loop_owner(d, struct ring_set, drainer));
}

/* ---- life ---- */

/* The counter is what the kernel itself goes by: then it has found it the same on all processors. */
static enum ttalloc_clock choose_clock(void)
{
	char name[16] = "";
	ssize_t n = 0;
	int fd;

	if (!TTALLOC_HAS_COUNTER)
		return TTALLOC_CLOCK_MONOTONIC;
	fd = open(CLOCKSOURCE, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, name, sizeof(name) - 1);
		close(fd);
	}
	name[n > 0 ? n : 0] = '\0';
	return strcmp(name, "tsc\n") == 0 || strcmp(name, "arch_sys_counter\n") == 0 ? TTALLOC_CLOCK_COUNTER
										      : TTALLOC_CLOCK_MONOTONIC;
}

int ring_set_init(struct ring_set *set)
{
	int r;

	set->drainer.drain = drain;
	waste_init(&set->waste, set->loop);
	set->active = NULL;
	set->users = NULL;
	set->source = NULL;
	set->sources_max = 0;
	set->batched = 0;
	set->period = 0;
	set->armed = 0;
	set->clock = choose_clock();
	set->can_arm = true;
	stamp_init(&set->scale, &(struct stamp_anchor){ counter(set), loop_monotonic(), loop_now() });
	set->timer = (struct loop_source){
		.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC),
		.ingest = true,
		.ready = timer_ready,
	};
	set->wakes = (struct loop_source){ .fd = epoll_create1(EPOLL_CLOEXEC), .ingest = true, .ready = wakes_ready };
	if (set->timer.fd < 0 || set->wakes.fd < 0)
		return -errno;
	r = loop_add(set->loop, &set->timer, EPOLLIN);
	if (r == 0)
		r = loop_add(set->loop, &set->wakes, EPOLLIN);
	if (r < 0)
		return r;
	loop_drainer_add(set->loop, &set->drainer);
	return 0;
}

static void close_source(struct ring_set *set, struct loop_source *s)
{
	loop_remove(set->loop, s);
	if (s->fd >= 0)
		close(s->fd);
}

void ring_set_deinit(struct ring_set *set)
{
	if (!set->drainer.drain)
		return;
	loop_drainer_remove(set->loop, &set->drainer);
	close_source(set, &set->timer);
	close_source(set, &set->wakes);
	waste_deinit(&set->waste);
	free(set->source);
}

/* A sealed file of the full size, mapped; nothing of it is in memory but the first page. */
static int make_memory(struct ring *r)
{
	void *at;

	r->fd = memfd_create("ttalloc-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (r->fd < 0 || ftruncate(r->fd, (off_t)TTALLOC_RING_SIZE) < 0 ||
	    fcntl(r->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	at = mmap(NULL, TTALLOC_RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, r->fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	(void)madvise(at, TTALLOC_RING_SIZE, MADV_DONTDUMP);
	r->memory = at;
	r->memory->magic = TTALLOC_RING_MAGIC;
	r->memory->version = TTALLOC_RING_VERSION;
	r->memory->clock = r->set->clock;
	return 0;
}

static int make(struct ring *r)
{
	/* Edge-triggered, and never read: O_NONBLOCK is of the open file, and so the client's to clear. */
	struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.ptr = r };
	int e = make_memory(r);

	if (e < 0)
		return e;
	r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->wake_fd < 0 || epoll_ctl(r->set->wakes.fd, EPOLL_CTL_ADD, r->wake_fd, &event) < 0)
		return -errno;
	return 0;
}

int ring_new(struct ring **ringp, struct ring_set *set, const struct ring_owner *owner)
{
	uint32_t uid = registry_process(set->ingest->registry, owner->process)->uid;
	int e = user_take(set, uid);
	struct ring *r;

	if (e < 0)
		return e;
	r = calloc(1, sizeof(*r));
	if (!r) {
		user_return(set, uid);
		return -ENOMEM;
	}
	r->set = set;
	r->owner = *owner;
	r->uid = uid;
	r->fd = r->wake_fd = -1;
	r->modules.max = TTALLOC_MODULES_MAX;
	r->sites.max = TTALLOC_SITES_MAX;
	r->tags.max = TTALLOC_TAGS_MAX;
	activate(r);
	set->info->rings++;
	registry_process_ring(set->ingest->registry, owner->process, true);
	e = make(r);
	if (e < 0) {
		ring_free(r);
		return e;
	}
	r->last = loop_monotonic();
	set_period(set, POLL_NS);
	*ringp = r;
	return 0;
}

/* Of a lane we have touched its head and no segment behind the last one that we have looked at; of lanes that are not
 * in use nothing. What was not touched costs nothing, so it goes with the piece behind it. */
static size_t piece_end(struct waste *w, size_t pos)
{
	const struct ring *r = loop_owner(w, struct ring, waste);

	for (uint32_t i = 0; i < r->lanes; i++) {
		size_t begin = TTALLOC_LANE_OFFSET(i), end;

		end = begin + TTALLOC_LANE_HEAD + r->lane[i].touched * sizeof(r->lane[i].memory->segment[0]);
		if (pos >= end)
			continue;
		begin = pos > begin ? pos : begin;
		return end - begin < WASTE_PIECE ? end : begin + WASTE_PIECE;
	}
	return w->size;
}

static void memory_gone(struct waste *w)
{
	struct ring *r = loop_owner(w, struct ring, waste);

	user_return(r->set, r->uid);
	free(r);
}

static void give_back(struct ring *r)
{
	r->waste.at = r->memory;
	r->waste.size = TTALLOC_RING_SIZE;
	r->waste.fd = r->fd;
	r->waste.piece_end = piece_end;
	r->waste.gone = memory_gone;
	if (r->memory) {
		waste_add(&r->set->waste, &r->waste);
		return;
	}
	if (r->fd >= 0)
		close(r->fd);
	memory_gone(&r->waste);
}

void ring_free(struct ring *r)
{
	if (!r)
		return;
	if (r->state == RING_ARMED)
		wake(r);
	/* What all others have told is only read when this one has, too: thousands of clients may end together. */
	if (r->memory && r->state == RING_ACTIVE) {
		if (has_news(r))
			ring_set_drain(r->set);
		else
			(void)account(r);
	}
	deactivate(r, RING_BROKEN);
	/* The client may hold it open; a descriptor that is only closed would stay in the set. */
	if (r->wake_fd >= 0) {
		(void)epoll_ctl(r->set->wakes.fd, EPOLL_CTL_DEL, r->wake_fd, NULL);
		close(r->wake_fd);
	}
	/* From here on the client knows what it has to tell to the next server. */
	if (r->memory)
		atomic_fetch_or(&r->memory->attention, TTALLOC_ATTENTION_GONE);
	r->set->info->rings--;
	registry_process_ring(r->set->ingest->registry, r->owner.process, false);
	free(r->modules.number);
	free(r->sites.number);
	free(r->tags.number);
	give_back(r);
}

int ring_memory_fd(const struct ring *r)
{
	return r->fd;
}

int ring_wake_fd(const struct ring *r)
{
	return r->wake_fd;
}
