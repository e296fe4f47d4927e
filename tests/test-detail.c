/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-detail.c - the detailed log of libttalloc (client/detail.c), with no server anywhere.
 *
 * The library reads its environment once per process, so every test is a process of its own: also with CK_FORK=no.
 * write() and fallocate() are replaced, for disks that are full and for what a signal handler may do in between.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/ttalloc.h"

/* In the process of a test, or of a child that it makes. */
#define NEED(condition)                                                                      \
	do {                                                                                 \
		if (!(condition)) {                                                          \
			fprintf(stderr, "test-detail.c:%d: not so: %s\n", __LINE__, #condition); \
			_exit(1);                                                            \
		}                                                                            \
	} while (0)

#define LINES_MAX 40000
#define HEADER "# time seq kind device type address size pid refs tid class caller tag"

/* --- the system under the library --- */

static bool disk_full;          /* no room can be reserved */
static bool cannot_reserve;     /* the file system does not know how to */
static int full_fd = -1;        /* /dev/full, where writes go then */
static size_t write_at_most;    /* 0: all */
static rlim_t limit_at_start;     /* of the size of files, before the first event */
static void (*_Atomic on_write)(void);  /* what comes in between, once */

ssize_t __real_write(int fd, const void *data, size_t length);
int __real_fallocate(int fd, int mode, off_t from, off_t length);
ssize_t __wrap_write(int fd, const void *data, size_t length);
int __wrap_fallocate(int fd, int mode, off_t from, off_t length);
int __wrap_fallocate64(int fd, int mode, off_t from, off_t length);

ssize_t __wrap_write(int fd, const void *data, size_t length)
{
	void (*const f)(void) = atomic_exchange(&on_write, NULL);

	if (f)
		f();
	if (write_at_most > 0 && length > write_at_most)
		length = write_at_most;
	return __real_write(full_fd >= 0 ? full_fd : fd, data, length);
}

int __wrap_fallocate(int fd, int mode, off_t from, off_t length)
{
	if (disk_full || cannot_reserve) {
		errno = disk_full ? ENOSPC : EOPNOTSUPP;
		return -1;
	}
	return __real_fallocate(fd, mode, from, length);
}

int __wrap_fallocate64(int fd, int mode, off_t from, off_t length)
{
	return __wrap_fallocate(fd, mode, from, length);
}

/* --- the log --- */

static char dir[] = "/tmp/test-detail-XXXXXX";
static char text[LINES_MAX * 128];
static char *lines[LINES_MAX];  /* of the text, without the header */
static size_t line_count;

static const char *in_dir(const char *name)
{
	static char path[4][1024];
	static unsigned next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

static const char *log_of(pid_t pid)
{
	char name[32];

	snprintf(name, sizeof(name), "%d.log", (int)pid);
	return in_dir(name);
}

/* All of the log, which must begin with its header and consist of whole lines. */
static void read_log(const char *path)
{
	const int fd = open(path, O_RDONLY);
	size_t length = 0;
	ssize_t n;
	char *line, *end;

	NEED(fd >= 0);
	while ((n = read(fd, text + length, sizeof(text) - 1 - length)) > 0)
		length += (size_t)n;
	close(fd);
	NEED(length > 0 && text[length - 1] == '\n');
	text[length] = 0;
	line_count = 0;
	for (line = text; *line; line = end + 1) {
		end = strchr(line, '\n');
		*end = 0;
		if (line == text)
			NEED(strcmp(line, HEADER) == 0);
		else
			lines[line_count++] = line;
		NEED(line_count < LINES_MAX);
	}
}

/* The nth field of a line, from 0. */
static const char *field(const char *line, unsigned n)
{
	static char found[4][256];
	static unsigned next;
	char *f = found[next++ % 4];

	for (; n > 0; n--) {
		line = strchr(line, ' ');
		NEED(line);
		line++;
	}
	snprintf(f, sizeof(found[0]), "%.*s", (int)strcspn(line, " "), line);
	return f;
}

static bool is_whole(const char *line)
{
	unsigned blanks = 0;

	for (; *line; line++)
		blanks += *line == ' ';
	return blanks == 12;
}

/* Events that lines of kind `lost` speak of. */
static uint64_t lost_in_log(void)
{
	uint64_t lost = 0;
	size_t i;

	for (i = 0; i < line_count; i++)
		if (is_whole(lines[i]) && strcmp(field(lines[i], 2), "lost") == 0)
			lost += strtoull(field(lines[i], 6), NULL, 10);
	return lost;
}

static struct ttalloc *open_instance(void)
{
	struct ttalloc *t;

	NEED(ttalloc_open(&t, in_dir("nobody")) == 0);
	return t;
}

static uint64_t unlogged(struct ttalloc *t)
{
	struct ttalloc_counters c;

	ttalloc_get_counters(t, &c);
	NEED(c.sent + c.queued + c.dropped > 0);
	return c.unlogged;
}

static void report(struct ttalloc *t, uint64_t first, uint64_t last)
{
	for (; first <= last; first++)
		ttalloc_free(t, 0, first);
}

/* --- tests --- */

static int status_of(pid_t pid)
{
	int status;

	NEED(waitpid(pid, &status, 0) == pid);
	return status;
}

/* As a process with this environment. */
static void run(void (*body)(void), const char *detailed, const char *log)
{
	pid_t pid;
	int status;

	strcpy(strrchr(dir, '-'), "-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	unsetenv("TMPDIR");
	unsetenv("TT_ALLOC_TRACKING_DETAILED");
	unsetenv("TTALLOC_LOG");
	if (detailed)
		setenv("TT_ALLOC_TRACKING_DETAILED", detailed, 1);
	if (log)
		setenv("TTALLOC_LOG", in_dir(log), 1);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		body();
		exit(0);
	}
	status = status_of(pid);
	ck_assert_msg(status == 0, "the process ended with status 0x%x", (unsigned)status);
}

static void teardown(void)
{
	struct dirent *entry;
	DIR *d = opendir(dir);

	while (d && (entry = readdir(d)))
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(d), entry->d_name, 0);
	if (d)
		closedir(d);
	rmdir(dir);
}

static void each_kind(void)
{
	static const char *const wanted[] = {
		"1 alloc 3 l1_small 0x000040000040 12288",
		"2 free 3 - 0x000040000040 -",
		"3 alloc 2 cb 0x000000020000 2048",
		"4 free 2 cb 0x000000020000 2048",
		"5 alloc 4 kernel 0x000000001001 8192",
		"6 free 4 kernel 0x000000001001 -",
		"7 alloc -7 255 0xffffffffffffffff -",
	};
	struct ttalloc *t = open_instance();
	const pid_t pid = getpid();
	struct stat st;
	char rest[128];
	size_t i;

	ttalloc_tag_push("model");
	ttalloc_tag_push("w 1%\n\xc3\xa9");
	ttalloc_alloc(t, 3, TTALLOC_L1_SMALL, 0x40000040, 0x3000);
	ttalloc_tag_pop();
	ttalloc_free(t, 3, 0x40000040);
	ttalloc_tag_pop();
	ttalloc_cb_alloc(t, 2, 0x20000, 2048);
	ttalloc_cb_free(t, 2, 0x20000, 2048);
	ttalloc_kernel_load(t, 4, TTALLOC_KERNEL_DISPATCH, 0x1001, 8192);
	ttalloc_kernel_unload(t, 4, 0x1001, 0);
	ttalloc_alloc(t, -7, 255, UINT64_MAX, 0);
	NEED(unlogged(t) == 0);
	ttalloc_close(t);
	NEED(stat(log_of(pid), &st) == 0 && (st.st_mode & 07777) == 0600);
	read_log(log_of(pid));
	NEED(line_count == 7);
	snprintf(rest, sizeof(rest), "%d - %d", (int)pid, (int)gettid());
	for (i = 0; i < 7; i++) {
		char *at = strchr(lines[i], ' ') + 1;

		NEED(is_whole(lines[i]));
		NEED(strncmp(at, wanted[i], strlen(wanted[i])) == 0);
		at += strlen(wanted[i]) + 1;
		NEED(strncmp(at, rest, strlen(rest)) == 0);
		NEED(strncmp(field(lines[i], 11), "test-detail+0x", 14) == 0);
	}
	NEED(strcmp(field(lines[0], 12), "model/w%201%25%0A%C3%A9") == 0);
	NEED(strcmp(field(lines[1], 12), "model") == 0);
	NEED(strcmp(field(lines[2], 12), "-") == 0);
	NEED(strcmp(field(lines[4], 10), "dispatch") == 0);
	NEED(strcmp(field(lines[0], 10), "-") == 0);
	NEED(strtod(field(lines[0], 0), NULL) > 1e9);
}

START_TEST(each_event_is_a_line)
{
	run(each_kind, "1", "%p.log");
}
END_TEST

static void expect_no_log(void)
{
	struct ttalloc *t = open_instance();

	report(t, 1, 3);
	NEED(unlogged(t) == 0);
	ttalloc_close(t);
	NEED(access(log_of(getpid()), F_OK) < 0 && errno == ENOENT);
}

START_TEST(only_1_turns_it_on)
{
	static const char *const values[] = { NULL, "", "0", "2", "yes", "11" };

	run(expect_no_log, values[_i], "%p.log");
}
END_TEST

static void default_name(void)
{
	char name[64];
	struct ttalloc *t;

	/* What stands for the pid in TTALLOC_LOG stands for itself in a folder. */
	NEED(mkdir(in_dir("%p"), 0700) == 0);
	setenv("TMPDIR", in_dir("%p"), 1);
	t = open_instance();
	report(t, 1, 3);
	ttalloc_close(t);
	snprintf(name, sizeof(name), "%%p/ttalloc-%d.log", (int)getpid());
	read_log(in_dir(name));
	NEED(line_count == 3);
	unlink(in_dir(name));
	rmdir(in_dir("%p"));
}

START_TEST(default_name_has_the_pid)
{
	run(default_name, "1", NULL);
}
END_TEST

/* Whatever is there already stays as it is, and the log is beside it. */
static void expect_beside(const char *taken)
{
	struct ttalloc *t = open_instance();
	char beside[1032];

	report(t, 1, 3);
	NEED(unlogged(t) == 0);
	ttalloc_close(t);
	snprintf(beside, sizeof(beside), "%s.1", taken);
	read_log(beside);
	NEED(line_count == 3);
}

static void make_file(const char *path)
{
	const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);

	NEED(fd >= 0 && __real_write(fd, "precious", 8) == 8);
	close(fd);
}

static void expect_precious(const char *path)
{
	char bytes[16];
	const int fd = open(path, O_RDONLY);

	NEED(fd >= 0 && read(fd, bytes, sizeof(bytes)) == 8 && memcmp(bytes, "precious", 8) == 0);
	close(fd);
}

static void links(void)
{
	make_file(in_dir("target"));
	NEED(symlink("target", log_of(getpid())) == 0);
	expect_beside(log_of(getpid()));
	expect_precious(in_dir("target"));
}

static void dangling_link(void)
{
	NEED(symlink("target", log_of(getpid())) == 0);
	expect_beside(log_of(getpid()));
	NEED(access(in_dir("target"), F_OK) < 0);
}

static void files(void)
{
	make_file(log_of(getpid()));
	expect_beside(log_of(getpid()));
	expect_precious(log_of(getpid()));
}

/* Nobody reads from it: who opened it for writing would wait. */
static void fifos(void)
{
	NEED(mkfifo(log_of(getpid()), 0600) == 0);
	expect_beside(log_of(getpid()));
}

START_TEST(nothing_that_exists_is_written_to)
{
	static void (*const bodies[])(void) = { links, dangling_link, files, fifos };

	run(bodies[_i], "1", "%p.log");
}
END_TEST

static void expect_nothing_logged(void)
{
	struct ttalloc *t = open_instance();

	errno = EXDEV;
	report(t, 1, 3);
	NEED(errno == EXDEV);
	NEED(unlogged(t) == 3);
	ttalloc_close(t);
}

START_TEST(file_that_cannot_be_made_is_counted)
{
	char full[512];

	memset(full, 'x', sizeof(full) - 1);
	full[sizeof(full) - 1] = 0;
	run(expect_nothing_logged, "1", _i == 0 ? "missing/%p.log" : full);
}
END_TEST

/* There was no such folder, and then there is: what was lost is in the log. */
static void late(void)
{
	struct ttalloc *t = open_instance();
	char name[40];

	report(t, 1, 100);
	NEED(unlogged(t) == 100);
	NEED(mkdir(in_dir("late"), 0700) == 0);
	report(t, 101, 200);
	NEED(unlogged(t) >= 100 && unlogged(t) < 200);
	snprintf(name, sizeof(name), "late/%d.log", (int)getpid());
	read_log(in_dir(name));
	NEED(lost_in_log() == unlogged(t));
	NEED(line_count == 1 + 200 - unlogged(t));
	ttalloc_close(t);
	NEED(unlink(in_dir(name)) == 0 && rmdir(in_dir("late")) == 0);
}

START_TEST(file_that_cannot_be_made_is_tried_again)
{
	run(late, "1", "late/%p.log");
}
END_TEST

/* One of the test's own: a library gone wrong, run by root, must not harm /dev/full. */
static void device(void)
{
	if (mknod(in_dir("device"), S_IFCHR | 0600, makedev(1, 7)) < 0)
		return;
	expect_nothing_logged();
	NEED(access(in_dir("device"), F_OK) == 0 && access(in_dir("device.1"), F_OK) < 0);
}

START_TEST(device_is_not_written_to)
{
	run(device, "1", "device");
}
END_TEST

static int log_descriptor(pid_t pid)
{
	char name[32], target[256];
	ssize_t n;
	int fd;

	for (fd = 0; fd < 64; fd++) {
		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		n = readlink(name, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = 0;
		if (strcmp(target, log_of(pid)) == 0)
			return fd;
	}
	return -1;
}

static bool is_mapped(const char *path)
{
	char line[1200];
	bool found = false;
	FILE *f = fopen("/proc/self/maps", "re");

	NEED(f);
	while (!found && fgets(line, sizeof(line), f))
		found = strstr(line, path) != NULL;
	fclose(f);
	return found;
}

static void forks(void)
{
	struct ttalloc *t = open_instance();
	pid_t child;

	report(t, 1, 2);
	NEED(is_mapped(log_of(getpid())));
	child = fork();
	NEED(child >= 0);
	if (child == 0) {
		NEED(log_descriptor(getppid()) < 0 && !is_mapped(log_of(getppid())));
		report(t, 10, 12);
		NEED(unlogged(t) == 0);
		_exit(0);
	}
	NEED(status_of(child) == 0);
	report(t, 3, 3);
	ttalloc_close(t);
	read_log(log_of(getpid()));
	NEED(line_count == 3 && atoi(field(lines[2], 1)) == 3);
	read_log(log_of(child));
	NEED(line_count == 3 && atoi(field(lines[0], 1)) == 1);
	NEED(strcmp(field(lines[0], 5), "0x00000000000a") == 0 && atoi(field(lines[0], 7)) == child);
	NEED(atoi(field(lines[0], 9)) == child);
}

START_TEST(child_has_its_own_file)
{
	run(forks, "1", "%p.log");
}
END_TEST

static void forks_with_one_name(void)
{
	struct ttalloc *t = open_instance();
	pid_t child;

	report(t, 1, 2);
	child = fork();
	NEED(child >= 0);
	if (child == 0) {
		report(t, 10, 12);
		_exit(0);
	}
	NEED(status_of(child) == 0);
	ttalloc_close(t);
	read_log(in_dir("100%.log"));
	NEED(line_count == 2);
	read_log(in_dir("100%.log.1"));
	NEED(line_count == 3);
}

START_TEST(child_with_the_same_name_has_its_own_file)
{
	run(forks_with_one_name, "1", "100%%.log");
}
END_TEST

#define THREADS 8
#define EVENTS 2000

static void *report_many(void *arg)
{
	ttalloc_tag_push("a tag that makes the lines longer, so that they cross the borders of blocks");
	report(arg, 1, EVENTS);
	ttalloc_tag_pop();
	return NULL;
}

static void threads(void)
{
	static bool seen[THREADS * EVENTS + 1];
	struct ttalloc *t = open_instance();
	pthread_t thread[THREADS];
	size_t i, seq;

	for (i = 0; i < THREADS; i++)
		NEED(pthread_create(&thread[i], NULL, report_many, t) == 0);
	for (i = 0; i < THREADS; i++)
		NEED(pthread_join(thread[i], NULL) == 0);
	NEED(unlogged(t) == 0);
	ttalloc_close(t);
	read_log(log_of(getpid()));
	NEED(line_count == THREADS * EVENTS);
	for (i = 0; i < line_count; i++) {
		NEED(is_whole(lines[i]));
		seq = strtoul(field(lines[i], 1), NULL, 10);
		NEED(seq >= 1 && seq <= THREADS * EVENTS && !seen[seq]);
		seen[seq] = true;
	}
}

START_TEST(threads_do_not_mix_lines)
{
	run(threads, "1", "%p.log");
}
END_TEST

/* The last line says what is missing while the disk is full, within a factor of two; later exactly. */
static void full_disk(void)
{
	struct ttalloc *t = open_instance();
	uint64_t lost, said;

	report(t, 1, 10);
	disk_full = true;
	report(t, 11, 5000);
	lost = unlogged(t);
	NEED(lost > 0);
	read_log(log_of(getpid()));
	NEED(strcmp(field(lines[line_count - 1], 2), "lost") == 0);
	said = lost_in_log();
	NEED(said <= lost && 2 * said >= lost);
	disk_full = false;
	report(t, 5001, 5001);
	NEED(unlogged(t) == lost);
	ttalloc_close(t);
	read_log(log_of(getpid()));
	NEED(lost_in_log() == lost);
	NEED(strcmp(field(lines[line_count - 1], 1), "5001") == 0);
	NEED(strcmp(field(lines[line_count - 2], 2), "lost") == 0);
}

START_TEST(full_disk_is_said)
{
	run(full_disk, "1", "%p.log");
}
END_TEST

/* Where no room can be reserved the device itself says that it is full. */
static void full_device(void)
{
	struct ttalloc *t = open_instance();

	cannot_reserve = true;
	report(t, 1, 10);
	full_fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	NEED(full_fd >= 0);
	errno = EXDEV;
	report(t, 11, 30);
	NEED(errno == EXDEV);
	NEED(unlogged(t) == 20);
	close(full_fd);
	full_fd = -1;
	report(t, 31, 31);
	ttalloc_close(t);
	read_log(log_of(getpid()));
	NEED(line_count == 12);
	NEED(lost_in_log() == 20);
	NEED(strcmp(field(lines[11], 1), "31") == 0);
}

START_TEST(full_device_is_said)
{
	run(full_device, "1", "%p.log");
}
END_TEST

static void torn_line(void)
{
	struct ttalloc *t = open_instance();

	report(t, 1, 1);
	write_at_most = 20;
	report(t, 2, 2);
	write_at_most = 0;
	report(t, 3, 3);
	NEED(unlogged(t) == 1);
	ttalloc_close(t);
	read_log(log_of(getpid()));
	/* The first, a torn one, perhaps a torn one about the loss, the loss, the third. */
	NEED(line_count >= 4);
	NEED(is_whole(lines[0]) && !is_whole(lines[1]));
	NEED(is_whole(lines[line_count - 2]) && is_whole(lines[line_count - 1]));
	NEED(lost_in_log() == 1);
	NEED(strcmp(field(lines[line_count - 1], 1), "3") == 0);
}

START_TEST(torn_line_ends_before_the_next)
{
	run(torn_line, "1", "%p.log");
}
END_TEST

/* SIGXFSZ is what a file at its limit is answered with: it would end the process. */
static void limited_size(void)
{
	const struct rlimit limit = { .rlim_cur = 1000, .rlim_max = RLIM_INFINITY };
	const struct rlimit none = { .rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY };
	struct ttalloc *t = open_instance();
	sigset_t signals;

	report(t, 1, 1);
	NEED(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	report(t, 2, 2000);
	NEED(sigpending(&signals) == 0 && !sigismember(&signals, SIGXFSZ));
	NEED(pthread_sigmask(SIG_BLOCK, NULL, &signals) == 0 && !sigismember(&signals, SIGXFSZ));
	NEED(unlogged(t) > 1900);
	NEED(setrlimit(RLIMIT_FSIZE, &none) == 0);
	report(t, 2001, 2001);
	NEED(unlogged(t) < 2000);
	ttalloc_close(t);
	read_log(log_of(getpid()));
	NEED(strcmp(field(lines[line_count - 1], 1), "2001") == 0);
}

START_TEST(limit_of_file_size_does_not_kill)
{
	run(limited_size, "1", "%p.log");
}
END_TEST

/* Room for what has to be said at the end is kept below the limit. */
static void limited_from_the_start(void)
{
	const struct rlimit limit = { .rlim_cur = 200000, .rlim_max = RLIM_INFINITY };
	struct ttalloc *t = open_instance();

	NEED(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	report(t, 1, 10000);
	NEED(unlogged(t) > 0);
	read_log(log_of(getpid()));
	NEED(line_count > 1000);
	NEED(is_whole(lines[line_count - 1]) && strcmp(field(lines[line_count - 1], 2), "lost") == 0);
	NEED(2 * lost_in_log() >= unlogged(t));
	ttalloc_close(t);
}

START_TEST(limit_of_file_size_is_said)
{
	run(limited_from_the_start, "1", "%p.log");
}
END_TEST

/* Not even the header fits, wholly or in part: no file is left, and the process lives. */
static void no_size_at_all(void)
{
	const struct rlimit limit = { .rlim_cur = limit_at_start, .rlim_max = RLIM_INFINITY };
	sigset_t signals;

	NEED(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	expect_nothing_logged();
	NEED(sigpending(&signals) == 0 && !sigismember(&signals, SIGXFSZ));
	NEED(access(log_of(getpid()), F_OK) < 0 && errno == ENOENT);
}

START_TEST(limit_below_the_header_does_not_kill)
{
	limit_at_start = (rlim_t)_i;
	run(no_size_at_all, "1", "%p.log");
}
END_TEST

/* What the program prints to its standard output must not end up in the log. */
static void without_standard(void)
{
	struct ttalloc *t = open_instance();

	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	report(t, 1, 1);
	NEED(log_descriptor(getpid()) > STDERR_FILENO);
	NEED(fcntl(STDIN_FILENO, F_GETFD) < 0 && fcntl(STDOUT_FILENO, F_GETFD) < 0);
	ttalloc_close(t);
}

START_TEST(descriptor_is_no_standard_one)
{
	run(without_standard, "1", "%p.log");
}
END_TEST

static void stolen(void)
{
	struct ttalloc *t = open_instance();
	int fd, other;

	report(t, 1, 1);
	fd = log_descriptor(getpid());
	NEED(fd >= 3 && (fcntl(fd, F_GETFD) & FD_CLOEXEC));
	make_file(in_dir("other"));
	other = open(in_dir("other"), O_WRONLY | O_APPEND);
	NEED(other >= 0 && dup2(other, fd) == fd);
	report(t, 2, 4);
	NEED(unlogged(t) == 3);
	ttalloc_close(t);
	expect_precious(in_dir("other"));
}

START_TEST(stolen_descriptor_is_not_written_to)
{
	run(stolen, "1", "%p.log");
}
END_TEST

/* The log is removed, every descriptor closed, and the program's own file gets both numbers, if it can be had: not every
 * file system uses the number of a file again. */
static void stolen_with_its_number(void)
{
	struct ttalloc *t = open_instance();
	char name[32];
	struct stat log, other;
	int fd, i;

	report(t, 1, 1);
	fd = log_descriptor(getpid());
	NEED(fd >= 3 && fstat(fd, &log) == 0);
	NEED(unlink(log_of(getpid())) == 0);
	NEED(close_range(3, ~0U, 0) == 0);
	for (i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "other-%d", i);
		make_file(in_dir(name));
		NEED(stat(in_dir(name), &other) == 0);
		NEED(other.st_ino != log.st_ino || other.st_dev != log.st_dev);
	}
	i = open(in_dir("other-0"), O_WRONLY | O_APPEND);
	NEED(i >= 0 && dup2(i, fd) == fd);
	report(t, 2, 4);
	NEED(unlogged(t) == 3);
	ttalloc_close(t);
	expect_precious(in_dir("other-0"));
}

START_TEST(stolen_numbers_are_not_written_to)
{
	run(stolen_with_its_number, "1", "%p.log");
}
END_TEST

/* As a signal handler would, in the middle of a line. */
static struct ttalloc *interrupted;

static void report_within(void)
{
	report(interrupted, 2, 2);
}

static void interrupts(void)
{
	interrupted = open_instance();
	report(interrupted, 0, 0);
	on_write = report_within;
	report(interrupted, 1, 1);
	NEED(unlogged(interrupted) == 0);
	ttalloc_close(interrupted);
	read_log(log_of(getpid()));
	NEED(line_count == 3);
	NEED(is_whole(lines[0]) && is_whole(lines[1]) && is_whole(lines[2]));
}

START_TEST(handler_in_the_middle_of_a_line)
{
	run(interrupts, "1", "%p.log");
}
END_TEST

/* While the file is being made its handler's event cannot be written, and is counted. */
static void interrupted_opening(void)
{
	interrupted = open_instance();
	on_write = report_within;
	report(interrupted, 1, 1);
	NEED(unlogged(interrupted) == 1);
	report(interrupted, 3, 3);
	ttalloc_close(interrupted);
	read_log(log_of(getpid()));
	NEED(lost_in_log() == 1);
	NEED(line_count == 3);
}

START_TEST(handler_in_the_middle_of_opening)
{
	run(interrupted_opening, "1", "%p.log");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("detail");
	TCase *tc = tcase_create("detail");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, NULL, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, each_event_is_a_line);
	tcase_add_loop_test(tc, only_1_turns_it_on, 0, 6);
	tcase_add_test(tc, default_name_has_the_pid);
	tcase_add_loop_test(tc, nothing_that_exists_is_written_to, 0, 4);
	tcase_add_loop_test(tc, file_that_cannot_be_made_is_counted, 0, 2);
	tcase_add_test(tc, file_that_cannot_be_made_is_tried_again);
	tcase_add_test(tc, device_is_not_written_to);
	tcase_add_test(tc, child_has_its_own_file);
	tcase_add_test(tc, child_with_the_same_name_has_its_own_file);
	tcase_add_test(tc, threads_do_not_mix_lines);
	tcase_add_test(tc, full_disk_is_said);
	tcase_add_test(tc, full_device_is_said);
	tcase_add_test(tc, torn_line_ends_before_the_next);
	tcase_add_test(tc, limit_of_file_size_does_not_kill);
	tcase_add_test(tc, limit_of_file_size_is_said);
	tcase_add_loop_test(tc, limit_below_the_header_does_not_kill, 0, 2);
	tcase_add_test(tc, descriptor_is_no_standard_one);
	tcase_add_test(tc, stolen_descriptor_is_not_written_to);
	tcase_add_test(tc, stolen_numbers_are_not_written_to);
	tcase_add_test(tc, handler_in_the_middle_of_a_line);
	tcase_add_test(tc, handler_in_the_middle_of_opening);
	suite_add_tcase(s, tc);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
