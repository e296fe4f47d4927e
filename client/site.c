/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * site.c - see site.h.
 *
 * Nothing here allocates or takes a lock of the C library: an event may come from a signal handler that has interrupted
 * malloc() or dlopen().
 */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/ring.h"
#include "client/site.h"

#define DEPTH_DEFAULT 20
#define STACK_TRIES 16
#define BUILD_ID_MAX 64
/* Records that a site and a file for each of its frames may need. */
#define ROOM ((TTALLOC_FRAMES_MAX + 1) * (TTALLOC_DEFINITION_MAX / 48 + 2))

unsigned site_depth __attribute__((visibility("hidden"))) = DEPTH_DEFAULT;
_Atomic bool site_no_walk[SITE_USES] __attribute__((visibility("hidden")));
static _Atomic unsigned cuts[SITE_USES];

void site_setup(void)
{
	const char *text = secure_getenv("TTALLOC_STACK_DEPTH");
	char *end;
	unsigned long v;

	if (!text || *text < '0' || *text > '9')
		return;
	v = strtoul(text, &end, 10);
	if (*end == 0 && v <= TTALLOC_FRAMES_MAX)
		site_depth = (unsigned)v;
}

/* --- the thread's stack --- */

/* What is in the thread's stack, or right above it, for certain. */
static uintptr_t stack_anchor(void)
{
	if (syscall(SYS_gettid) == getpid())
		return getauxval(AT_RANDOM);
	return (uintptr_t)&ring_self;
}

static unsigned hex_digit(char c)
{
	return c >= '0' && c <= '9' ? (unsigned)(c - '0') : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10) : 16;
}

/* Reads /proc/self/maps as it comes: "start-end " at the beginning of each line. */
struct maps_reader {
	uintptr_t value[2];
	unsigned field;                  /* 0 start, 1 end, 2 the rest of the line */
};

/* True at the end of a range. */
static bool maps_take(struct maps_reader *m, char c)
{
	if (c == '\n') {
		*m = (struct maps_reader){ 0 };
	} else if (m->field < 2 && hex_digit(c) < 16) {
		m->value[m->field] = m->value[m->field] << 4 | hex_digit(c);
	} else if (m->field < 2) {
		m->field++;
		return m->field == 2;
	}
	return false;
}

/* Start of the mapping that holds the address; 0: none does, or it cannot be found out. */
static uintptr_t read_mapping_start(int fd, uintptr_t address)
{
	struct maps_reader m = { .field = 0 };
	char text[512];
	ssize_t i, n;

	while ((n = read(fd, text, sizeof(text))) > 0)
		for (i = 0; i < n; i++)
			if (maps_take(&m, text[i]) && address >= m.value[0] && address < m.value[1])
				return m.value[0];
	return 0;
}

/* A descriptor, or -1; to be closed by maps_close() in any case. */
static int maps_open(void)
{
	uplink_descriptors_lock();
	return open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
}

static void maps_close(int fd)
{
	if (fd >= 0)
		close(fd);
	uplink_descriptors_unlock();
}

static uintptr_t mapping_start(uintptr_t address)
{
	const int fd = maps_open();
	const uintptr_t start = fd >= 0 ? read_mapping_start(fd, address) : 0;

	maps_close(fd);
	return start;
}

bool site_find_stack(struct ring_self *self, uintptr_t frame)
{
	uintptr_t anchor, low;

	/* First of all: on a coroutine's stack every event comes here. */
	if (self->stack_tries >= STACK_TRIES || self->descriptors > 0)
		return false;
	self->stack_tries++;
	anchor = stack_anchor();
	if (frame >= anchor)
		return false;
	low = mapping_start(anchor);
	if (low == 0)
		return false;
	/* The handler of a signal in between must not see one of another pair. */
	self->stack_high = 0;
	atomic_signal_fence(memory_order_seq_cst);
	self->stack_low = low;
	atomic_signal_fence(memory_order_seq_cst);
	self->stack_high = anchor & ~(uintptr_t)(SITE_FRAME_ALIGN - 1);
	/* The first thread's stack grows, so it is looked at again; every time that it was in vain counts. */
	if (frame < low)
		return false;
	self->stack_tries--;
	return true;
}

/* --- loaded files --- */

#ifdef HAVE_DL_FIND_OBJECT

static const ElfW(Phdr) *program_headers(const struct dl_find_object *o, size_t *np)
{
	const ElfW(Ehdr) *e = o->dlfo_map_start;
	const size_t mapped = (size_t)((uintptr_t)o->dlfo_map_end - (uintptr_t)o->dlfo_map_start);

	if (mapped < sizeof(*e) || memcmp(e->e_ident, ELFMAG, SELFMAG) != 0 || e->e_phentsize != sizeof(ElfW(Phdr)))
		return NULL;
	/* Within the first page, which is mapped: where every linker puts them. */
	if (e->e_phoff > 4096 || e->e_phoff + e->e_phnum * sizeof(ElfW(Phdr)) > 4096)
		return NULL;
	*np = e->e_phnum;
	return (const ElfW(Phdr) *)((uintptr_t)e + e->e_phoff);
}

/* Whether the file's addresses from..from+size are mapped from it and may be read. */
static bool is_readable(const ElfW(Phdr) *ph, size_t n, ElfW(Addr) from, ElfW(Xword) size)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (ph[i].p_type == PT_LOAD && (ph[i].p_flags & PF_R) && from >= ph[i].p_vaddr &&
		    size <= ph[i].p_filesz && from - ph[i].p_vaddr <= ph[i].p_filesz - size)
			return true;
	return false;
}

/* Finds the build id among notes; its length, or 0. */
static size_t find_build_id(const uint8_t *notes, size_t size, const uint8_t **idp)
{
	const size_t align = 4;
	ElfW(Nhdr) h;
	size_t name, desc;

	while (size >= sizeof(h)) {
		memcpy(&h, notes, sizeof(h));
		name = ((size_t)h.n_namesz + align - 1) & ~(align - 1);
		desc = ((size_t)h.n_descsz + align - 1) & ~(align - 1);
		if (name > size - sizeof(h) || desc > size - sizeof(h) - name)
			return 0;
		if (h.n_type == NT_GNU_BUILD_ID && h.n_namesz == 4 && memcmp(notes + sizeof(h), "GNU", 4) == 0) {
			*idp = notes + sizeof(h) + name;
			return h.n_descsz <= BUILD_ID_MAX ? h.n_descsz : BUILD_ID_MAX;
		}
		notes += sizeof(h) + name + desc;
		size -= sizeof(h) + name + desc;
	}
	return 0;
}

static size_t build_id(const ElfW(Phdr) *ph, size_t n, uintptr_t load, const uint8_t **idp)
{
	size_t i, length;

	for (i = 0; i < n; i++) {
		if (ph[i].p_type != PT_NOTE || !is_readable(ph, n, ph[i].p_vaddr, ph[i].p_memsz))
			continue;
		length = find_build_id((const uint8_t *)(load + ph[i].p_vaddr), ph[i].p_memsz, idp);
		if (length > 0)
			return length;
	}
	return 0;
}

/* maps says so behind the path of a file that was removed, or replaced. */
static size_t without_deleted(const uint8_t *path, size_t length)
{
	static const char deleted[] = " (deleted)";
	const size_t n = sizeof(deleted) - 1;

	return length > n && memcmp(path + length - n, deleted, n) == 0 ? length - n : length;
}

/* Where the file is from that is mapped at the address: length of its absolute path, or 0. */
static size_t read_mapping_path(int fd, uintptr_t address, uint8_t *path, size_t max)
{
	struct maps_reader m = { .field = 0 };
	char text[512];
	size_t length = 0;
	bool here = false;
	ssize_t i, n;

	while ((n = read(fd, text, sizeof(text))) > 0)
		for (i = 0; i < n; i++) {
			if (!here)
				here = maps_take(&m, text[i]) && address >= m.value[0] && address < m.value[1];
			else if (text[i] == '\n')
				return without_deleted(path, length);
			/* Nothing in front of the path has a slash. */
			else if ((length > 0 || text[i] == '/') && length < max)
				path[length++] = (uint8_t)text[i];
		}
	return length;
}

static size_t mapping_path(uintptr_t address, uint8_t *path, size_t max)
{
	size_t length;
	int fd;

	/* In a handler that has interrupted whoever holds the lock. */
	if (ring_self.descriptors > 0)
		return 0;
	fd = maps_open();
	length = fd >= 0 ? read_mapping_path(fd, address, path, max) : 0;
	maps_close(fd);
	return length;
}

/* What is said of a file: length of the build id, the build id, the path. */
static size_t describe(uint8_t *bytes, const struct dl_find_object *o, const ElfW(Phdr) *ph, size_t n)
{
	const struct link_map *map = o->dlfo_link_map;
	const uint8_t *id = NULL;
	size_t at, length;
	ssize_t r;

	length = build_id(ph, n, map->l_addr, &id);
	bytes[0] = (uint8_t)length;
	if (length > 0)
		memcpy(bytes + 1, id, length);
	at = 1 + length;
	/* The program itself has no name there. */
	if (map->l_name && map->l_name[0]) {
		/* A relative one said where it was from the directory that was ours then. */
		length = map->l_name[0] == '/' ? 0 : mapping_path((uintptr_t)o->dlfo_map_start, bytes + at,
								  TTALLOC_DEFINITION_MAX - at);
		if (length > 0)
			return at + length;
		length = strnlen(map->l_name, TTALLOC_DEFINITION_MAX - at);
		memcpy(bytes + at, map->l_name, length);
		return at + length;
	}
	r = readlink("/proc/self/exe", (char *)bytes + at, TTALLOC_DEFINITION_MAX - at);
	return at + (r > 0 ? (size_t)r : 0);
}

static void find_code(struct site_module *m, const ElfW(Phdr) *ph, size_t n)
{
	uintptr_t from, to;
	size_t i;

	m->code_start = UINTPTR_MAX;
	m->code_end = 0;
	for (i = 0; i < n; i++) {
		if (ph[i].p_type != PT_LOAD || !(ph[i].p_flags & PF_X))
			continue;
		from = m->load + ph[i].p_vaddr;
		to = from + ph[i].p_memsz;
		m->code_start = from < m->code_start ? from : m->code_start;
		m->code_end = to > m->code_end ? to : m->code_end;
	}
}

static struct site_module *module_add(struct sites *s, const struct dl_find_object *o)
{
	struct site_module *m;
	const ElfW(Phdr) *ph;
	size_t n = 0;

	ph = program_headers(o, &n);
	if (!ph || s->module_count == TTALLOC_MODULES_MAX)
		return NULL;
	m = &s->modules[s->module_count];
	m->start = (uintptr_t)o->dlfo_map_start;
	m->end = (uintptr_t)o->dlfo_map_end;
	m->load = o->dlfo_link_map->l_addr;
	m->number = 0;
	find_code(m, ph, n);
	s->module_count++;
	return m;
}

static void module_define(struct ring_lane *l, struct site_module *m, const struct dl_find_object *o)
{
	struct sites *s = &l->ring->sites;
	const ElfW(Phdr) *ph;
	size_t n = 0;

	m->number = (uint32_t)(m - s->modules) + 1;
	ph = program_headers(o, &n);
	ring_define(l, TTALLOC_RECORD_MODULE, m->number, s->scratch, describe(s->scratch, o, ph, n));
}

/* The loaded file that holds the code in front of the return address, defined; NULL: there is none. */
static const struct site_module *find_module(struct ring_lane *l, uintptr_t address)
{
	struct sites *s = &l->ring->sites;
	struct site_module *m = NULL;
	struct dl_find_object o;
	uint32_t i;

	if (_dl_find_object((void *)(address - 1), &o) != 0)
		return NULL;
	for (i = 0; i < s->module_count && !m; i++)
		if (s->modules[i].start == (uintptr_t)o.dlfo_map_start &&
		    s->modules[i].end == (uintptr_t)o.dlfo_map_end && s->modules[i].load == o.dlfo_link_map->l_addr)
			m = &s->modules[i];
	if (!m)
		m = module_add(s, &o);
	if (!m || address - 1 < m->code_start || address - 1 >= m->code_end)
		return NULL;
	if (m->number == 0)
		module_define(l, m, &o);
	return m;
}

/* Whether the address is in a file's code, then as a frame. */
static bool frame_of(struct ring_lane *l, uintptr_t address, uint64_t *framep)
{
	const struct site_module *m = find_module(l, address);

	if (!m)
		return false;
	*framep = (uint64_t)m->number << TTALLOC_FRAME_MODULE_SHIFT | (address - m->load);
	return true;
}

const char *site_file(uintptr_t address, uintptr_t *offsetp)
{
	const struct link_map *map;
	struct dl_find_object o;
	const char *slash;

	*offsetp = address;
	if (_dl_find_object((void *)(address - 1), &o) != 0)
		return NULL;
	map = o.dlfo_link_map;
	*offsetp = address - map->l_addr;
	/* The program itself has no name there. */
	if (!map->l_name || !map->l_name[0])
		return program_invocation_short_name;
	slash = strrchr(map->l_name, '/');
	return slash ? slash + 1 : map->l_name;
}

#else

const char *site_file(uintptr_t address, uintptr_t *offsetp)
{
	*offsetp = address;
	return NULL;
}

static bool frame_of(struct ring_lane *l, uintptr_t address, uint64_t *framep)
{
	(void)l;
	*framep = address;
	return true;
}

#endif

/* --- sites --- */

void site_insert(struct site_slot *slots, unsigned bits, uint64_t hash, uint32_t number)
{
	const size_t mask = ((size_t)1 << bits) - 1;
	size_t i = (size_t)(hash >> (64 - bits));

	while (atomic_load_explicit(&slots[i].hash, memory_order_relaxed) != 0)
		i = (i + 1) & mask;
	atomic_store_explicit(&slots[i].number, number, memory_order_relaxed);
	atomic_store_explicit(&slots[i].hash, hash, memory_order_release);
}

struct stack {
	uintptr_t addresses[TTALLOC_FRAMES_MAX];
	unsigned n;
	bool more;                       /* the stack goes on */
	bool cut;                        /* the chain led to what is no code */
	enum site_use use;
	uint64_t hash;                   /* of all n, as the event computed it */
};

static uint64_t hash_of(const uintptr_t *addresses, unsigned n)
{
	uint64_t hash = 0;
	unsigned i;

	for (i = 0; i < n; i++)
		hash = site_mix(hash, addresses[i]);
	return site_mixed(hash);
}

static SITE_WALKS void collect(struct stack *st, const uintptr_t *frame, unsigned depth, uintptr_t stack_high)
{
	st->n = 0;
	do {
		st->addresses[st->n++] = site_address(frame[1]);
		frame = depth > 1 ? site_next_frame(frame, stack_high) : NULL;
	} while (frame && st->n < depth);
	st->more = frame != NULL;
	st->hash = hash_of(st->addresses, st->n);
}

/* Frames into the scratch space behind the head; ends before the first address that is no code. */
static void resolve(struct stack *st, struct ring_lane *l, uint64_t frames[TTALLOC_FRAMES_MAX])
{
	unsigned i;

	st->cut = false;
	for (i = 0; i < st->n; i++) {
		if (frame_of(l, st->addresses[i], &frames[i]))
			continue;
		/* The caller itself is not in a file: made by a compiler at run time. */
		if (i == 0)
			frames[i++] = st->addresses[0];
		st->cut = i < st->n;
		st->n = i;
		return;
	}
}

static uint32_t define(struct stack *st, struct ring_lane *l, const uint64_t *frames)
{
	const struct ttalloc_site_head head = {
		.method = st->n >= 2 ? TTALLOC_STACK_FRAME_POINTER : TTALLOC_STACK_RETURN_ADDRESS,
		.frames = (uint8_t)st->n,
		.truncated = st->more && !st->cut,
	};
	struct sites *s = &l->ring->sites;
	const size_t length = sizeof(head) + st->n * sizeof(*frames);

	memcpy(s->scratch, &head, sizeof(head));
	memcpy(s->scratch + sizeof(head), frames, length - sizeof(head));
	if (!ring_define(l, TTALLOC_RECORD_SITE, s->count + 1, s->scratch, length))
		return 0;
	s->frees += st->use == SITE_FREE;
	return ++s->count;
}

static bool has_number(const struct sites *s, enum site_use use)
{
	return s->count < TTALLOC_SITES_MAX && (use != SITE_FREE || s->frees < SITE_FREES_MAX);
}

static void count_cut(enum site_use use)
{
	if (atomic_fetch_add(&cuts[use], 1) + 1 >= SITE_CUTS_MAX)
		atomic_store(&site_no_walk[use], true);
}

static uint32_t define_new(struct stack *st, struct ring_lane *l)
{
	struct sites *s = &l->ring->sites;
	uint64_t frames[TTALLOC_FRAMES_MAX], hash;
	uint32_t number;

	number = site_lookup(s->slots, SITE_BITS, st->hash);
	if (number != 0 || !ring_has_room(l, ROOM))
		return number;
	resolve(st, l, frames);
	/* What was cut off may differ each time, what is left is one site. */
	hash = hash_of(st->addresses, st->n);
	if (st->cut) {
		count_cut(st->use);
		number = site_lookup(s->slots, SITE_BITS, hash);
		if (number != 0 && !atomic_load(&site_no_walk[st->use]))
			site_insert(s->slots, SITE_BITS, st->hash, number);
		if (number != 0)
			return number;
	}
	number = has_number(s, st->use) ? define(st, l, frames) : 0;
	if (number == 0)
		return 0;
	site_insert(s->slots, SITE_BITS, hash, number);
	if (st->cut)
		site_insert(s->slots, SITE_BITS, st->hash, number);
	return number;
}

uint32_t site_define(struct ring_lane *l, struct ring_self *self, const uintptr_t *frame, enum site_use use, bool walk,
		     bool nested)
{
	struct stack st = { .use = use };
	uint32_t number;

	if (!nested)
		pthread_mutex_lock(&l->ring->defining);
	else if (pthread_mutex_trylock(&l->ring->defining) != 0)
		return 0;
	collect(&st, frame, walk ? site_depth : 1, self->stack_high);
	number = define_new(&st, l);
	pthread_mutex_unlock(&l->ring->defining);
	return number;
}
