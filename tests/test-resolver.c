/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-resolver.c - tracker/resolver.c with the real ttalloc-symbolize, on real and on broken files, and with programs
 * that do not do what they should.
 *
 * test-resolver SYMBOLIZE MODULE STRIPPED [MODULE-CPP]
 */
#include "tracker/resolver.h"

#include <check.h>
#include <dirent.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/module.h"

#define NOBODY 65534
#define MODULES 512

static const char *symbolize, *module_path, *stripped_path, *cpp_path;

static struct loop *loop;
static struct symbols *symbols;
static struct errlog errlog;
static struct resolver *resolver;
static struct resolver_module module[MODULES];  /* by number; without a path: not known */
static unsigned changes;
static char dir[] = "/tmp/test-resolver-XXXXXX";

/* ---- a resolver ---- */

static bool find_module(void *data, uint32_t number, struct resolver_module *out)
{
	*out = module[number];
	return out->path != NULL;
}

static __attribute__((noinline)) void on_changed(void *data)
{
	changes++;
	if (!resolver_busy(resolver))
		loop_stop(loop, 0);
}

static void open_resolver(const char *program, unsigned limit_ms)
{
	const struct resolver_config config = {
		.loop = loop,
		.symbols = symbols,
		.errlog = &errlog,
		.program = program,
		.limit_ms = limit_ms,
		.module = find_module,
		.changed = on_changed,
	};

	ck_assert_int_eq(resolver_new(&resolver, &config), 0);
}

static void setup(void)
{
	strcpy(dir + sizeof(dir) - 7, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chmod(dir, 0755), 0);
	memset(module, 0, sizeof(module));
	memset(&errlog, 0, sizeof(errlog));
	changes = 0;
	ck_assert_int_eq(loop_new(&loop), 0);
	ck_assert_int_eq(symbols_new(&symbols, 1), 0);
	open_resolver(symbolize, 0);
}

static void reopen(const char *program, unsigned limit_ms)
{
	resolver_free(resolver);
	open_resolver(program, limit_ms);
}

static void remove_dir(void)
{
	DIR *d = opendir(dir);
	const struct dirent *e;

	ck_assert_ptr_nonnull(d);
	while ((e = readdir(d)))
		(void)unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
	ck_assert_int_eq(rmdir(dir), 0);
}

/* Whatever happened before: there is nothing left. */
static void teardown(void)
{
	remove_dir();
	resolver_free(resolver);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
	symbols_free(symbols);
	loop_free(loop);
}

static void set_module(uint32_t number, const char *path)
{
	module[number] = (struct resolver_module){ .path = path, .uid = getuid(), .gid = getgid() };
}

static void want(uint32_t number, uint64_t offset)
{
	if (symbols_want(symbols, number, offset, 1))
		resolver_kick(resolver);
}

static void run(void)
{
	while (resolver_busy(resolver))
		ck_assert_int_eq(loop_run(loop), 0);
}

static const char *look_up(uint32_t number, uint64_t offset)
{
	want(number, offset);
	run();
	return symbols_name(symbols, number, offset);
}

/* One turn of the loop, in which a request is sent. */
static bool stop_now(struct loop_work *w)
{
	loop_stop(loop, 0);
	return false;
}

static void run_turn(void)
{
	struct loop_work stop = { .step = stop_now };

	loop_work_add(loop, &stop);
	ck_assert_int_eq(loop_run(loop), 0);
}

/* The line of the error log, without its time; "" = there is none. */
static const char *error_line(void)
{
	ck_assert_uint_le(errlog.total, 1);
	return errlog.total ? errlog.line[0].text : "";
}

/* ---- files ---- */

static char *file_name(const char *name)
{
	char *path;

	ck_assert_int_gt(asprintf(&path, "%s/%s", dir, name), 0);
	return path;
}

static char *write_file(const char *name, const void *data, size_t size, mode_t mode)
{
	char *path = file_name(name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fchmod(fd, mode), 0);
	ck_assert_int_eq(write(fd, data, size), (ssize_t)size);
	close(fd);
	return path;
}

static char *write_script(const char *text)
{
	return write_file("script", text, strlen(text), 0755);
}

static unsigned char *read_file(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned char *data;
	struct stat st;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	*size = (size_t)st.st_size;
	data = malloc(*size);
	ck_assert_ptr_nonnull(data);
	ck_assert_int_eq(read(fd, data, *size), st.st_size);
	close(fd);
	return data;
}

static char *copy_module(const char *name, mode_t mode)
{
	size_t size;
	unsigned char *data = read_file(module_path, &size);
	char *path = write_file(name, data, size, mode);

	free(data);
	return path;
}

/* ---- addresses ---- */

/* As if a call in the function's first byte returned. */
static uint64_t offset_of(const void *address)
{
	struct link_map *map = NULL;
	Dl_info info;

	ck_assert_int_ne(dladdr1(address, &info, (void **)&map, RTLD_DL_LINKMAP), 0);
	return (uint64_t)(uintptr_t)address - map->l_addr + 1;
}

struct loaded {
	uint64_t hidden, open, endless;
	int line;
};

static struct loaded load(const char *path)
{
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	struct loaded l;

	ck_assert_msg(handle != NULL, "%s", dlerror());
	l.hidden = offset_of(*(void **)dlsym(handle, "module_hidden_address"));
	l.open = offset_of(dlsym(handle, "module_open"));
	l.endless = offset_of(dlsym(handle, "module_endless"));
	l.line = *(int *)dlsym(handle, "module_line");
	return l;
}

static size_t build_id_of(const char *path, uint8_t *id)
{
	size_t size, len = 0;
	unsigned char *data = read_file(path, &size);
	ElfW(Ehdr) head;

	memcpy(&head, data, sizeof(head));
	for (unsigned i = 0; i < head.e_phnum; i++) {
		ElfW(Phdr) p;
		ElfW(Nhdr) n;

		memcpy(&p, data + head.e_phoff + i * sizeof(p), sizeof(p));
		for (size_t at = p.p_offset; p.p_type == PT_NOTE && at < p.p_offset + p.p_filesz;
		     at += sizeof(n) + ((n.n_namesz + 3) & ~3U) + ((n.n_descsz + 3) & ~3U)) {
			memcpy(&n, data + at, sizeof(n));
			if (n.n_type == NT_GNU_BUILD_ID) {
				len = n.n_descsz;
				memcpy(id, data + at + sizeof(n) + 4, len);
			}
		}
	}
	free(data);
	ck_assert_uint_eq(len, 20);
	return len;
}

/* ---- names ---- */

START_TEST(functions_of_this_program)
{
	char self[PATH_MAX] = "";
	const char *name;

	ck_assert_int_gt(readlink("/proc/self/exe", self, sizeof(self) - 1), 0);
	set_module(1, self);
	name = look_up(1, offset_of((const void *)on_changed));
	ck_assert_ptr_nonnull(name);
	ck_assert_uint_eq(strcspn(name, "@"), strlen("on_changed"));
	ck_assert_int_eq(strncmp(name, "on_changed", strlen("on_changed")), 0);
	ck_assert_str_eq(error_line(), "");
	ck_assert_uint_eq(changes, 1);
}
END_TEST

START_TEST(function_file_and_line)
{
	struct loaded l = load(module_path);
	char name[64];

	snprintf(name, sizeof(name), "module_open@module.c:%d", l.line);
	set_module(1, module_path);
	ck_assert_str_eq(look_up(1, l.open), name);
	snprintf(name, sizeof(name), "module_hidden@module.c:%d", l.line - 6);
	ck_assert_str_eq(look_up(1, l.hidden), name);
	/* The nearest function is not good enough. */
	ck_assert_ptr_null(look_up(1, l.endless));
	ck_assert_ptr_null(look_up(1, l.endless + 1));
	ck_assert_ptr_null(look_up(1, 0));
	ck_assert_ptr_null(look_up(1, UINT64_MAX));
	ck_assert_ptr_null(look_up(1, 1));
}
END_TEST

START_TEST(stripped)
{
	struct loaded l = load(stripped_path);

	set_module(1, stripped_path);
	ck_assert_ptr_null(look_up(1, l.hidden));
	ck_assert_str_eq(look_up(1, l.open), "module_open");
}
END_TEST

START_TEST(cplusplus)
{
	void *handle = cpp_path ? dlopen(cpp_path, RTLD_NOW | RTLD_LOCAL) : NULL;

	if (!cpp_path)
		return;
	ck_assert_msg(handle != NULL, "%s", dlerror());
	set_module(1, cpp_path);
	ck_assert_str_eq(look_up(1, offset_of(*(void **)dlsym(handle, "module_cpp_address"))),
			 "outer::Buffer<int>::grow@module-cpp.cpp:6");
}
END_TEST

START_TEST(build_id)
{
	uint64_t offset = load(module_path).open;
	uint8_t id[64] = { 0 };

	for (uint32_t i = 1; i <= 4; i++) {
		set_module(i, module_path);
		module[i].build_id = id;
		module[i].build_id_len = build_id_of(module_path, id);
	}
	ck_assert_ptr_nonnull(look_up(1, offset));
	module[2].build_id_len--;
	ck_assert_ptr_null(look_up(2, offset));
	module[3].build_id_len = sizeof(id) + 1;
	ck_assert_ptr_null(look_up(3, offset));
	id[19] ^= 1;
	ck_assert_ptr_null(look_up(4, offset));
	ck_assert_ptr_null(look_up(1, load(module_path).hidden));
	ck_assert_uint_eq(symbols_count(symbols).failed, 4);
}
END_TEST

/* More than one request of one module, and requests of several modules. */
START_TEST(many)
{
	uint64_t offset = load(module_path).open;
	uint32_t n = 0;

	for (uint32_t i = 1; i <= 20; i++) {
		set_module(i, module_path);
		for (uint64_t j = 0; j < 100 * (i % 5); j++, n++)
			want(i, j ? j << 32 : offset);
	}
	run();
	for (uint32_t i = 1; i <= 20; i++)
		ck_assert_int_eq(symbols_name(symbols, i, offset) != NULL, i % 5 != 0);
	ck_assert_uint_eq(symbols_count(symbols).named, 16);
	ck_assert_uint_eq(symbols_count(symbols).failed, n - 16);
	/* 4 modules each of 100, 200, 300 and 400 frames, 128 in a request */
	ck_assert_uint_eq(changes, 4 * (1 + 2 + 3 + 4));
}
END_TEST

/* ---- files that are none ---- */

START_TEST(not_a_module)
{
	static const char archive[] = "!<arch>\n/               0           0     0     0       4         `\n";
	int opens = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	uint32_t n = 0;
	char *path[16], event[sizeof(struct inotify_event)];

	path[n++] = write_file("empty", "", 0, 0644);
	path[n++] = write_file("text", "hello", 5, 0644);
	path[n++] = write_file("magic", ELFMAG, SELFMAG, 0644);
	path[n++] = write_file("archive", archive, sizeof(archive) - 1, 0644);
	path[n++] = write_file("huge", ELFMAG, SELFMAG, 0644);
	ck_assert_int_eq(truncate(path[n - 1], INT64_C(1) << 40), 0);
	path[n++] = copy_module("huge-module", 0644);
	ck_assert_int_eq(truncate(path[n - 1], INT64_C(1) << 40), 0);
	path[n++] = file_name("fifo");
	ck_assert_int_eq(mkfifo(path[n - 1], 0644), 0);
	ck_assert_int_ge(inotify_add_watch(opens, path[n - 1], IN_OPEN), 0);
	path[n++] = file_name("");
	path[n++] = file_name("missing");
	path[n++] = strdup("/dev/zero");
	path[n++] = strdup("/proc/self/exe");  /* a magic link */
	path[n++] = strdup("relative");
	path[n++] = strdup("");
	path[n++] = strdup("[vdso]");
	path[n++] = malloc(PATH_MAX + 1);
	memset(path[n - 1], '/', PATH_MAX);
	path[n - 1][PATH_MAX] = '\0';
	for (uint32_t i = 0; i < n; i++)
		set_module(i + 1, path[i]);
	for (uint32_t i = 0; i < n + 1; i++)
		want(i + 1, 0x1234);
	run();
	ck_assert_uint_eq(symbols_count(symbols).failed, n + 1);
	ck_assert_str_eq(error_line(), "");
	ck_assert_int_eq(read(opens, event, sizeof(event)), -1);
	ck_assert_int_eq(errno, EAGAIN);
	close(opens);
	for (uint32_t i = 0; i < n; i++)
		free(path[i]);
}
END_TEST

/* A small generator: the same files every time. */
static uint32_t chance(uint64_t *state, uint32_t below)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((*state >> 33) % below);
}

static size_t mutate(unsigned char *data, size_t size, uint32_t i)
{
	uint64_t state = i;
	ElfW(Ehdr) head;
	size_t area;

	memcpy(&head, data, sizeof(head));
	for (uint32_t n = 1 + chance(&state, 16); n; n--) {
		switch (chance(&state, 3)) {
		case 0:
			area = chance(&state, sizeof(head) - EI_NIDENT) + EI_NIDENT;
			break;
		case 1:
			area = head.e_shoff + chance(&state, (uint32_t)(size - head.e_shoff));
			break;
		default:
			area = chance(&state, (uint32_t)size);
		}
		data[area] = (unsigned char)(chance(&state, 4) ? chance(&state, 256) : 255);
	}
	return chance(&state, 4) ? size : chance(&state, (uint32_t)size);
}

START_TEST(mutated)
{
	struct loaded l = load(module_path);
	size_t size;
	unsigned char *data = read_file(module_path, &size), *copy = malloc(size);
	char name[32], *path;

	ck_assert_ptr_nonnull(copy);
	for (uint32_t i = 1; i <= 300; i++) {
		memcpy(copy, data, size);
		snprintf(name, sizeof(name), "mutated-%u", i);
		path = write_file(name, copy, mutate(copy, size, i), 0644);
		set_module(i, path);
		want(i, l.hidden);
		want(i, l.open);
		for (uint64_t j = 1; j < 16; j++)
			want(i, l.open + j * 16);
		run();
		free(path);
	}
	ck_assert_uint_eq(symbols_count(symbols).wanted + symbols_count(symbols).asked, 0);
	ck_assert_uint_gt(symbols_count(symbols).named, 0);
	ck_assert_str_eq(error_line(), "");
	/* It has not been started again: one that is started a second time knows nothing of the first. */
	set_module(301, module_path);
	ck_assert_ptr_nonnull(look_up(301, l.open));
	free(copy);
	free(data);
}
END_TEST

/* ---- rights ---- */

START_TEST(as_the_user)
{
	uint64_t offset = load(module_path).open;
	char *secret = copy_module("secret", 0600), *open = copy_module("open", 0644);

	if (getuid() != 0)
		return;
	set_module(1, secret);
	set_module(2, secret);
	module[2].uid = module[2].gid = NOBODY;
	set_module(3, open);
	module[3].uid = module[3].gid = NOBODY;
	set_module(4, open);
	module[4].uid = UINT32_MAX;
	set_module(5, open);
	module[5].gid = UINT32_MAX;
	ck_assert_ptr_nonnull(look_up(1, offset));
	ck_assert_ptr_null(look_up(2, offset));
	ck_assert_ptr_nonnull(look_up(3, offset));
	ck_assert_ptr_null(look_up(4, offset));
	ck_assert_ptr_null(look_up(5, offset));
	free(secret);
	free(open);
}
END_TEST

static pid_t start_child(bool in_dir)
{
	int pair[2];
	pid_t pid;
	char c;

	ck_assert_int_eq(pipe(pair), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || (in_dir && chroot(dir) < 0))
			_exit(1);
		close(pair[1]);
		close(pair[0]);
		for (;;)
			pause();
	}
	close(pair[1]);
	ck_assert_int_eq(read(pair[0], &c, 1), 0);
	close(pair[0]);
	return pid;
}

static void end_child(pid_t pid)
{
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

/* The path is what the process sees, whether it has another root directory or is gone. */
START_TEST(in_the_root_of_the_process)
{
	uint64_t offset = load(module_path).open;
	char *copy = copy_module("inside", 0644), *link = file_name("link");
	pid_t here = start_child(false), there;

	ck_assert_int_eq(symlink("/inside", link), 0);
	set_module(1, module_path);
	module[1].pid = here;
	ck_assert_ptr_nonnull(look_up(1, offset));
	end_child(here);
	set_module(2, module_path);
	module[2].pid = here;
	ck_assert_ptr_nonnull(look_up(2, offset));
	if (getuid() == 0) {
		there = start_child(true);
		set_module(3, "/inside");
		set_module(4, "/link");
		set_module(5, module_path);
		module[3].pid = module[4].pid = module[5].pid = there;
		ck_assert_ptr_nonnull(look_up(3, offset));
		ck_assert_ptr_nonnull(look_up(4, offset));
		ck_assert_ptr_null(look_up(5, offset));
		end_child(there);
	}
	free(copy);
	free(link);
}
END_TEST

/* ---- programs that fail ---- */

/* Our only child. */
static pid_t program_pid(void)
{
	char path[64], text[64] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_gt(read(fd, text, sizeof(text) - 1), 0);
	close(fd);
	ck_assert_uint_eq(strcspn(text, " "), strlen(text) - 1);
	return atoi(text);
}

START_TEST(killed_in_the_middle)
{
	uint64_t offset = load(module_path).open;

	/* The sixth time is the last. */
	for (uint32_t i = 1; i <= 8; i++)
		set_module(i, module_path);
	ck_assert_ptr_nonnull(look_up(1, offset));
	for (uint32_t i = 2; i <= 7; i++) {
		pid_t pid = program_pid();

		ck_assert_int_eq(kill(pid, SIGSTOP), 0);
		want(i, offset);
		run_turn();
		ck_assert(resolver_busy(resolver));
		ck_assert_uint_eq(symbols_count(symbols).asked, 1);
		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		run();
		if (i < 7) {
			ck_assert_ptr_nonnull(symbols_name(symbols, i, offset));
			ck_assert_str_eq(error_line(), "");
		}
	}
	ck_assert_ptr_null(symbols_name(symbols, 7, offset));
	ck_assert_ptr_nonnull(strstr(error_line(), "call sites have no names: "));
	ck_assert_ptr_nonnull(strstr(error_line(), ": it ended too often"));
	ck_assert_ptr_null(look_up(8, offset));
	ck_assert_uint_eq(symbols_count(symbols).wanted, 1);
	ck_assert_uint_eq(errlog.total, 1);
}
END_TEST

START_TEST(killed_while_idle)
{
	uint64_t offset = load(module_path).open;

	set_module(1, module_path);
	set_module(2, module_path);
	ck_assert_ptr_nonnull(look_up(1, offset));
	ck_assert_int_eq(kill(program_pid(), SIGKILL), 0);
	ck_assert_ptr_nonnull(look_up(2, offset));
	ck_assert_str_eq(error_line(), "");
}
END_TEST

START_TEST(not_installed)
{
	char *path = file_name("no-program"), line[ERRLOG_LINE];

	reopen(path, 0);
	set_module(1, module_path);
	ck_assert_ptr_null(look_up(1, 1));
	ck_assert_ptr_null(look_up(1, 2));
	snprintf(line, sizeof(line), "call sites have no names: %s: No such file or directory", path);
	ck_assert_str_eq(error_line(), line);
	ck_assert_uint_eq(changes, 1);
	free(path);
}
END_TEST

/* What is started writes a byte per start. */
static void assert_starts(size_t n)
{
	char *path = file_name("starts");
	size_t size;

	free(read_file(path, &size));
	ck_assert_uint_eq(size, n);
	free(path);
}

static void refuse(const char *commands, unsigned limit_ms)
{
	char *text, *script;

	ck_assert_int_gt(asprintf(&text, "#!/bin/sh\nprintf x >>%s/starts\n%s", dir, commands), 0);
	script = write_script(text);
	reopen(script, limit_ms);
	set_module(1, module_path);
	ck_assert_ptr_null(look_up(1, 1));
	assert_starts(1 + RESOLVER_RESTARTS);
	ck_assert_ptr_nonnull(strstr(error_line(), "it ended too often"));
	free(script);
	free(text);
}

START_TEST(ends_at_once)
{
	refuse("exit 0\n", 0);
}
END_TEST

START_TEST(says_something_else)
{
	refuse("printf hello >&0\nexec sleep 1000\n", 0);
}
END_TEST

START_TEST(says_too_much)
{
	refuse("dd if=/dev/zero bs=100000 count=1 >&0 2>/dev/null\nexec sleep 1000\n", 0);
}
END_TEST

START_TEST(says_nothing)
{
	refuse("exec sleep 1000\n", 100);
}
END_TEST

/* ---- files that never answer ---- */

/* Nobody answers whether the file may be opened: it is not opened, and that user waits. -1: we may not do that. */
static int hold_file(const char *path)
{
	int fd = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY);

	if (fd >= 0 && fanotify_mark(fd, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, path) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

START_TEST(a_user_who_takes_long_waits)
{
	uint64_t offset = load(module_path).open;
	char *held = copy_module("held", 0644), *open = copy_module("open", 0644);
	int fd = getuid() == 0 ? hold_file(held) : -1;

	if (fd < 0)
		return;
	reopen(symbolize, 1000);
	set_module(1, held);
	set_module(2, open);
	set_module(3, open);
	module[1].uid = module[1].gid = module[2].uid = module[2].gid = NOBODY;
	ck_assert_ptr_null(look_up(1, offset));
	ck_assert_uint_eq(symbols_count(symbols).failed, 1);
	/* His next one is passed over, but only for a while. */
	want(2, offset);
	want(3, offset);
	run();
	ck_assert_ptr_null(symbols_name(symbols, 2, offset));
	ck_assert_uint_eq(symbols_count(symbols).wanted, 1);
	ck_assert_ptr_nonnull(symbols_name(symbols, 3, offset));
	while (!symbols_name(symbols, 2, offset))
		ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_str_eq(error_line(), "");
	close(fd);
	free(held);
	free(open);
}
END_TEST

/* ---- the end ---- */

/* In the middle of a request. teardown() looks for what is left. */
START_TEST(freed_while_busy)
{
	set_module(1, module_path);
	want(1, 1);
	run_turn();
	ck_assert(resolver_busy(resolver));
	reopen(symbolize, 0);
	ck_assert(!resolver_busy(resolver));
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
}
END_TEST

/* Without anything to find it stands where it gets installed; nothing is done before it is needed. */
START_TEST(where_it_is)
{
	reopen(NULL, 0);
	run_turn();
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert(!resolver_busy(resolver));
	ck_assert_str_eq(error_line(), "");
}
END_TEST

int main(int argc, char **argv)
{
	Suite *suite = suite_create("resolver");
	TCase *t = tcase_create("resolver");
	SRunner *r;
	int failed;

	if (argc < 4)
		return EXIT_FAILURE;
	symbolize = realpath(argv[1], NULL);
	module_path = realpath(argv[2], NULL);
	stripped_path = realpath(argv[3], NULL);
	cpp_path = argv[4] ? realpath(argv[4], NULL) : NULL;
	signal(SIGPIPE, SIG_IGN);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, functions_of_this_program);
	tcase_add_test(t, function_file_and_line);
	tcase_add_test(t, stripped);
	tcase_add_test(t, cplusplus);
	tcase_add_test(t, build_id);
	tcase_add_test(t, many);
	tcase_add_test(t, not_a_module);
	tcase_add_test(t, mutated);
	tcase_add_test(t, as_the_user);
	tcase_add_test(t, in_the_root_of_the_process);
	tcase_add_test(t, killed_in_the_middle);
	tcase_add_test(t, killed_while_idle);
	tcase_add_test(t, not_installed);
	tcase_add_test(t, ends_at_once);
	tcase_add_test(t, says_something_else);
	tcase_add_test(t, says_too_much);
	tcase_add_test(t, says_nothing);
	tcase_add_test(t, a_user_who_takes_long_waits);
	tcase_add_test(t, freed_while_busy);
	tcase_add_test(t, where_it_is);
	suite_add_tcase(suite, t);
	r = srunner_create(suite);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
