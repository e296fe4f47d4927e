/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * detail.c - see detail.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/detail.h"
#include "client/ring.h"
#include "client/tag.h"
#include "client/uplink.h"

#define NAME_DEFAULT "ttalloc-%p.log"
#define NAMES 100          /* tried before it is given up: NAME, NAME.1, NAME.2 ... */
#define CALLER_NAME_MAX 64
#define NUMBER_MAX 20      /* digits of a number */
/* The longest line: every byte of tag and file name escaped, all other fields at their longest. */
#define LINE_MAX_BYTES (3 * (TTALLOC_NAME_MAX + CALLER_NAME_MAX) + 16 * (NUMBER_MAX + 1))
/* Space is reserved in such steps, */
#define STEP (64 * 1024)
/* and this much ahead of what is written: for lines that tell of losses (one per doubling, so 64 at most), and for
 * lines of other threads that are under way. */
#define MARGIN (16 * 1024)

#define NEVER UINT64_MAX

#define HEADER "# time seq kind device type address size pid refs tid class caller tag\n"

/* Of the process. All but the template starts anew in a forked child. */
static struct {
	_Atomic int fd;               /* -1: not open */
	_Atomic uint64_t try_at;      /* losses at which it is tried to make the file; NEVER */
	dev_t dev;                    /* of the file, to recognise a descriptor that somebody else closed */
	ino_t ino;
	void *mapped;                 /* a page of it, so that no other file gets these numbers; or NULL */
	pid_t pid;
	_Atomic bool torn;            /* the file may end in the middle of a line */
	_Atomic uint64_t reserved;    /* bytes from the start of the file that have room on the disk */
	_Atomic uint64_t events;
	_Atomic uint64_t lost;
	_Atomic uint64_t lost_said;   /* by lines of kind `lost` */
} file = { .fd = -1 };

static char template[PATH_MAX];
/* Under the descriptors' lock. Not on a stack, which may be that of a signal handler. */
static char path[PATH_MAX];

bool detail_on;

/* A folder is meant as it is, whatever is in its name. */
static size_t copy_folder(const char *folder)
{
	size_t n = 0;

	for (; *folder && n + 3 < sizeof(template); folder++) {
		template[n++] = *folder;
		if (*folder == '%')
			template[n++] = '%';
	}
	template[n++] = '/';
	return n;
}

void detail_setup(void)
{
	const char *wanted = secure_getenv("TT_ALLOC_TRACKING_DETAILED");
	const char *name = secure_getenv("TTALLOC_LOG");
	const char *folder = secure_getenv("TMPDIR");
	size_t n = 0;

	if (!wanted || strcmp(wanted, "1") != 0)
		return;
	detail_on = true;
	if (!name || !name[0]) {
		n = copy_folder(folder && folder[0] ? folder : "/tmp");
		name = NAME_DEFAULT;
	}
	if (n + strlen(name) < sizeof(template)) {
		strcpy(template + n, name);
	} else {
		template[0] = 0;
		atomic_store(&file.try_at, NEVER);
	}
}

/* --- text --- */

/* Whoever calls makes sure that there is room. */
struct line {
	size_t length;
	char text[LINE_MAX_BYTES];
};

static void put_char(struct line *l, char c)
{
	l->text[l->length++] = c;
}

static void put_text(struct line *l, const char *text)
{
	const size_t length = strlen(text);

	memcpy(l->text + l->length, text, length);
	l->length += length;
}

/* At least `width` digits. */
static void put_digits(struct line *l, uint64_t v, unsigned base, unsigned width)
{
	char digits[NUMBER_MAX];
	unsigned n = 0;

	for (; v > 0 || n < width; v /= base)
		digits[n++] = "0123456789abcdef"[v % base];
	while (n > 0)
		put_char(l, digits[--n]);
}

static void put_number(struct line *l, int64_t v)
{
	if (v < 0)
		put_char(l, '-');
	put_digits(l, v < 0 ? -(uint64_t)v : (uint64_t)v, 10, 1);
}

static void put_hex(struct line *l, uint64_t v, unsigned width)
{
	put_text(l, "0x");
	put_digits(l, v, 16, width);
}

/* As one word of printable ASCII. */
static void put_escaped(struct line *l, const char *bytes, size_t length)
{
	size_t i;

	for (i = 0; i < length; i++) {
		const unsigned char c = (unsigned char)bytes[i];

		if (c > ' ' && c < 0x7f && c != '%') {
			put_char(l, (char)c);
		} else {
			put_char(l, '%');
			put_char(l, "0123456789ABCDEF"[c >> 4]);
			put_char(l, "0123456789ABCDEF"[c & 15]);
		}
	}
}

static void put_time(struct line *l)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	put_number(l, ts.tv_sec);
	put_char(l, '.');
	put_digits(l, (uint64_t)ts.tv_nsec / 1000, 10, 6);
}

/* --- the file --- */

/*
 * The program may close the descriptor, and what it opens then may get its number, and the number of our file if that
 * was removed. But not while the file is mapped, which no close() ends. Where it cannot be mapped there is only the
 * hope that numbers are not used again so soon.
 */
static void hold(int fd)
{
	void *p = mmap(NULL, 1, PROT_NONE, MAP_PRIVATE, fd, 0);

	file.mapped = p == MAP_FAILED ? NULL : p;
}

static void let_go(void)
{
	if (file.mapped)
		munmap(file.mapped, 1);
	file.mapped = NULL;
}

static bool is_ours(int fd, uint64_t *sizep)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_dev != file.dev || st.st_ino != file.ino)
		return false;
	*sizep = (uint64_t)st.st_size;
	return true;
}

/* The path is the template with the number of the process in it; "" if that gets too long. */
static void expand(pid_t pid)
{
	struct line number = { .length = 0 };
	const char *t = template;
	size_t n = 0;

	put_number(&number, pid);
	while (*t && n + number.length + 1 < PATH_MAX) {
		if (t[0] == '%' && t[1] == 'p') {
			memcpy(path + n, number.text, number.length);
			n += number.length;
			t += 2;
		} else {
			path[n++] = *t;
			t += t[0] == '%' && t[1] == '%' ? 2 : 1;
		}
	}
	path[*t ? 0 : n] = 0;
}

/* Makes the file at the path, or at a similar one, which the path is then. */
static int create(void)
{
	const size_t length = strlen(path);
	struct line number;
	struct stat st;
	int fd, i;

	for (i = 0; i < NAMES; i++) {
		if (i > 0) {
			number.length = 0;
			put_char(&number, '.');
			put_number(&number, i);
			put_char(&number, 0);
			if (length + number.length > PATH_MAX)
				return -1;
			memcpy(path + length, number.text, number.length);
		}
		/* Exclusively: whatever is there already, a link above all, is not ours to write to. Only what could be read
		 * can be mapped. */
		fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, 0600);
		if (fd >= 0 || errno != EEXIST)
			return uplink_above_standard(fd);
		/* Nobody wants a file beside /dev/full. */
		if (lstat(path, &st) < 0 || S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
			return -1;
	}
	return -1;
}

/* Without the signal that a file at its limit is answered with. */
static ssize_t write_quietly(int fd, const char *text, size_t length)
{
	static const struct timespec at_once;
	sigset_t limit, before, pending;
	bool was_pending = false;
	ssize_t n;

	sigemptyset(&limit);
	sigaddset(&limit, SIGXFSZ);
	pthread_sigmask(SIG_BLOCK, &limit, &before);
	if (sigismember(&before, SIGXFSZ) && sigpending(&pending) == 0)
		was_pending = sigismember(&pending, SIGXFSZ);
	do
		n = write(fd, text, length);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EFBIG && !was_pending)
		sigtimedwait(&limit, NULL, &at_once);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return n;
}

/* Whether it is time to make the file. A failure may be over later, but to try again must not cost much. */
static bool is_due(void)
{
	return atomic_load(&file.fd) < 0 && atomic_load(&file.lost) >= atomic_load(&file.try_at);
}

/* The descriptors' lock is held. */
static void open_file(void)
{
	const size_t length = strlen(HEADER);
	struct stat st;
	int fd;

	if (!is_due())
		return;
	file.pid = getpid();
	expand(file.pid);
	fd = path[0] ? create() : -1;
	if (fd >= 0 && (fstat(fd, &st) < 0 || write_quietly(fd, HEADER, length) != (ssize_t)length)) {
		close(fd);
		unlink(path);
		fd = -1;
	}
	if (fd < 0) {
		atomic_store(&file.try_at, 2 * atomic_load(&file.lost) + 1);
		return;
	}
	file.dev = st.st_dev;
	file.ino = st.st_ino;
	hold(fd);
	atomic_store(&file.fd, fd);
}

/* The descriptor; -1: there is no file. *sizep is that of the file. */
static int ready(uint64_t *sizep)
{
	int fd = atomic_load(&file.fd);

	/* A handler that has interrupted somebody who opens or closes a descriptor cannot wait for him. */
	if (is_due() && ring_self.descriptors == 0) {
		uplink_descriptors_lock();
		open_file();
		uplink_descriptors_unlock();
		fd = atomic_load(&file.fd);
	}
	return is_ours(fd, sizep) ? fd : -1;
}

void detail_forked(void)
{
	const int fd = atomic_load(&file.fd);
	uint64_t size;

	if (!detail_on)
		return;
	if (is_ours(fd, &size))
		close(fd);
	let_go();
	atomic_store(&file.fd, -1);
	atomic_store(&file.try_at, template[0] ? 0 : NEVER);
	atomic_store(&file.torn, false);
	atomic_store(&file.reserved, 0);
	atomic_store(&file.events, 0);
	atomic_store(&file.lost, 0);
	atomic_store(&file.lost_said, 0);
}

/* The text begins with a newline, which is needed only behind a line that was torn. */
static bool append(int fd, const struct line *l)
{
	const bool torn = atomic_exchange(&file.torn, false);
	const size_t skip = torn ? 0 : 1;
	const ssize_t n = write_quietly(fd, l->text + skip, l->length - skip);

	if (n == (ssize_t)(l->length - skip))
		return true;
	if (torn || n > 0)
		atomic_store(&file.torn, true);
	return false;
}

static bool limit_allows(uint64_t size)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY || size <= limit.rlim_cur;
}

/* Whether a line may be written to the file, which has `size` bytes. */
static bool has_room(int fd, uint64_t size)
{
	uint64_t reserved = atomic_load(&file.reserved);
	const uint64_t from = size > reserved ? size : reserved;
	int r;

	if (size + MARGIN <= reserved)
		return true;
	if (!limit_allows(from + STEP))
		return false;
	do
		r = fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)from, STEP);
	while (r < 0 && errno == EINTR);
	if (r < 0 && errno != EOPNOTSUPP && errno != ENOSYS)
		return false;
	atomic_compare_exchange_strong(&file.reserved, &reserved, from + STEP);
	return true;
}

/* --- lines --- */

static const char *kind_of(const struct ring_event *e)
{
	const bool is_new = e->kind == TTALLOC_RECORD_ALLOC || e->kind == TTALLOC_RECORD_CB_ALLOC ||
			    e->kind == TTALLOC_RECORD_KERNEL_LOAD;

	return is_new ? "alloc" : "free";
}

static void put_type(struct line *l, const struct ring_event *e)
{
	static const char *const types[] = { "dram", "l1", "system_memory", "l1_small", "trace" };

	if (e->kind == TTALLOC_RECORD_CB_ALLOC || e->kind == TTALLOC_RECORD_CB_FREE)
		put_text(l, "cb");
	else if (e->kind == TTALLOC_RECORD_KERNEL_LOAD || e->kind == TTALLOC_RECORD_KERNEL_UNLOAD)
		put_text(l, "kernel");
	else if (e->kind == TTALLOC_RECORD_FREE)
		put_char(l, '-');
	else if (e->type < sizeof(types) / sizeof(types[0]))
		put_text(l, types[e->type]);
	else
		put_number(l, e->type);
}

static void put_class(struct line *l, const struct ring_event *e)
{
	static const char *const classes[] = { "application", "fabric", "dispatch" };

	if (e->kind != TTALLOC_RECORD_KERNEL_LOAD)
		put_char(l, '-');
	else if (e->type < sizeof(classes) / sizeof(classes[0]))
		put_text(l, classes[e->type]);
	else
		put_number(l, e->type);
}

/* FILE+OFFSET of the return address, which addr2line understands; where the file is not known, the address. */
static void put_caller(struct line *l, const uintptr_t *frame)
{
	const char *name;
	uintptr_t offset;

	if (!frame) {
		put_char(l, '-');
		return;
	}
	name = site_file(site_address(frame[1]), &offset);
	if (name) {
		put_escaped(l, name, strnlen(name, CALLER_NAME_MAX));
		put_char(l, '+');
	}
	put_hex(l, offset, 1);
}

static void put_tag(struct line *l)
{
	const char *text;
	const size_t length = tag_text(&ring_self, &text);

	if (length > 0)
		put_escaped(l, text, length);
	else
		put_char(l, '-');
}

static void put_head(struct line *l, uint64_t seq, const char *kind)
{
	l->length = 0;
	put_char(l, '\n');
	put_time(l);
	put_char(l, ' ');
	put_digits(l, seq, 10, 1);
	put_char(l, ' ');
	put_text(l, kind);
	put_char(l, ' ');
}

static void put_process(struct line *l)
{
	put_char(l, ' ');
	put_number(l, file.pid);
	put_text(l, " - ");
	put_number(l, gettid());
	put_char(l, ' ');
}

/* Says what was lost since it was last said; unless `all`, only when that has doubled. */
static void say_losses(int fd, bool all)
{
	uint64_t said = atomic_load(&file.lost_said);
	const uint64_t lost = atomic_load(&file.lost);
	struct line l;

	if (lost == said || (!all && lost - said < said))
		return;
	if (!atomic_compare_exchange_strong(&file.lost_said, &said, lost))
		return;
	put_head(&l, 0, "lost");
	put_text(&l, "- - - ");
	put_digits(&l, lost - said, 10, 1);
	put_process(&l);
	put_text(&l, "- - -\n");
	if (!append(fd, &l))
		atomic_fetch_sub(&file.lost_said, lost - said);
}

static bool write_event(int fd, const struct ring_event *e, uint64_t seq, const uintptr_t *frame)
{
	struct line l;

	put_head(&l, seq, kind_of(e));
	put_number(&l, e->device);
	put_char(&l, ' ');
	put_type(&l, e);
	put_char(&l, ' ');
	put_hex(&l, e->address, 12);
	put_char(&l, ' ');
	if (e->size > 0)
		put_digits(&l, e->size, 10, 1);
	else
		put_char(&l, '-');
	put_process(&l);
	put_class(&l, e);
	put_char(&l, ' ');
	put_caller(&l, frame);
	put_char(&l, ' ');
	put_tag(&l);
	put_char(&l, '\n');
	return append(fd, &l);
}

void detail_event(const struct ring_event *e, const uintptr_t *frame)
{
	const uint64_t seq = atomic_fetch_add(&file.events, 1) + 1;
	uint64_t size = 0;
	const int fd = ready(&size);

	if (fd >= 0 && has_room(fd, size)) {
		say_losses(fd, true);
		if (write_event(fd, e, seq, frame))
			return;
	}
	atomic_fetch_add(&file.lost, 1);
	if (fd >= 0)
		say_losses(fd, false);
}

uint64_t detail_lost(void)
{
	return atomic_load(&file.lost);
}
