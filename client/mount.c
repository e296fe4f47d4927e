/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * mount.c - see mount.h.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "client/escape.h"
#include "client/mount.h"

#define CHUNK 65536
/* How long names of functions are waited for: the first of a binary, the others after each other, all in all. */
#define NAMES_FIRST_MS 3000
#define NAMES_NEXT_MS 300
#define NAMES_ALL_MS 5000

/* --- files --- */

static int read_fd(int fd, char **textp, size_t *lengthp)
{
	size_t length = 0, room = 0;
	char *text = NULL, *larger;
	ssize_t n = 1;

	while (n > 0) {
		if (room - length < CHUNK / 2) {
			room = room ? room * 2 : CHUNK;
			larger = realloc(text, room);
			if (!larger) {
				free(text);
				return -ENOMEM;
			}
			text = larger;
		}
		n = read(fd, text + length, room - length - 1);
		if (n < 0 && errno == EINTR)
			n = 1;
		else if (n > 0)
			length += (size_t)n;
	}
	if (n < 0) {
		n = -errno;
		free(text);
		return (int)n;
	}
	text[length] = '\0';
	*textp = text;
	*lengthp = length;
	return 0;
}

static int open_in(const struct mount *m, const char *name, int flags)
{
	char *path;
	int fd;

	if (asprintf(&path, "%s/%s", m->path, name) < 0)
		return -ENOMEM;
	fd = open(path, flags | O_CLOEXEC | O_NOCTTY);
	fd = fd < 0 ? -errno : fd;
	free(path);
	return fd;
}

int read_whole(const char *path, char **textp, size_t *lengthp)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY), r;

	if (fd < 0)
		return -errno;
	r = read_fd(fd, textp, lengthp);
	close(fd);
	return r;
}

int mount_text(const struct mount *m, const char *name, char **textp)
{
	size_t length;
	int fd = open_in(m, name, O_RDONLY), r;

	if (fd < 0)
		return fd;
	r = read_fd(fd, textp, &length);
	close(fd);
	return r;
}

int mount_command(const struct mount *m, const char *line)
{
	int fd = open_in(m, "ctl", O_WRONLY), r = 0;

	if (fd < 0)
		return fd;
	if (write(fd, line, strlen(line)) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* The value of a key in a text of `key value` pairs, up to `end` ("\n" or " \n"); "" if there is none. Not terminated. */
static const char *value_of(const char *text, const char *key, const char *between, size_t *lengthp)
{
	const size_t length = strlen(key);

	for (; text && *text; text = strpbrk(text, between), text = text ? text + 1 : NULL) {
		if (strncmp(text, key, length) == 0 && text[length] == ' ') {
			text += length + 1;
			*lengthp = strcspn(text, between);
			return text;
		}
	}
	*lengthp = 0;
	return "";
}

/* --- which one --- */

/* NULL if there is none. */
static int take_word(const char *version, const char *key, char **wordp)
{
	size_t length;
	const char *value = value_of(version, key, " \n", &length);

	*wordp = NULL;
	if (length == 0 || (length == 1 && *value == '-'))
		return 0;
	*wordp = strndup(value, length);
	if (!*wordp)
		return -ENOMEM;
	escape_undo(*wordp);
	return 0;
}

static int take_version(struct mount *m, const char *version)
{
	size_t length;
	int r;

	if (strncmp(version, "ttalloc ", 8) != 0)
		return -EPROTO;
	m->pid = (int32_t)strtol(value_of(version, "pid", " \n", &length), NULL, 10);
	if (strtol(value_of(version, "abi", " \n", &length), NULL, 10) != 1 || m->pid <= 0)
		return -EPROTO;
	r = take_word(version, "instance", &m->instance);
	if (r == 0)
		r = m->instance ? take_word(version, "socket", &m->socket) : -EPROTO;
	return r < 0 ? r : take_word(version, "compat_socket", &m->compat_socket);
}

int mount_open(struct mount *m, const char *path)
{
	char *version = NULL;
	int r;

	/* It is handed on to processes that may be in another directory. */
	*m = (struct mount){ .path = realpath(path, NULL) };
	r = m->path ? mount_text(m, "version", &version) : -errno;
	if (r == 0)
		r = take_version(m, version);
	free(version);
	if (r < 0)
		mount_close(m);
	return r;
}

void mount_close(struct mount *m)
{
	free(m->path);
	free(m->instance);
	free(m->socket);
	free(m->compat_socket);
	*m = (struct mount){ 0 };
}

const char *mount_path(const char *wanted)
{
	const char *path = wanted ? wanted : getenv("TTALLOC_MOUNT");

	return path && *path ? path : MOUNT_DEFAULT;
}

/* --- stacks --- */

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Whether a frame has a name, or cannot have one, or another one of the same binary has. */
static bool is_looked_up(const struct stack *stack, const struct frame *f)
{
	size_t i;

	if (strcmp(f->module, "-") == 0)
		return true;
	for (i = 0; i < stack->count; i++)
		if (strcmp(stack->frames[i].module, f->module) == 0 && strcmp(stack->frames[i].function, "-") != 0)
			return true;
	return false;
}

/* How long to wait for more names. 0: there is nothing to wait for. A binary is looked into as a whole, so the first of
 * its names takes long, and the others follow. */
static int64_t patience(const struct stack *stack)
{
	int64_t wait = 0;
	size_t i;

	for (i = 0; i < stack->count; i++) {
		if (!is_looked_up(stack, &stack->frames[i]))
			return NAMES_FIRST_MS;
		if (strcmp(stack->frames[i].module, "-") != 0 && strcmp(stack->frames[i].function, "-") == 0)
			wait = NAMES_NEXT_MS;
	}
	return wait;
}

/* The server finds names one by one: a change of the file is what poll() tells. */
static int read_stack(int fd, int64_t deadline, struct stack *stack)
{
	struct pollfd p = { .fd = fd, .events = POLLPRI };
	int64_t wait;
	size_t length;
	char *text;
	int r;

	for (;;) {
		r = read_fd(fd, &text, &length);
		if (r < 0)
			return r;
		r = stack_read(stack, text);
		free(text);
		wait = r == 0 ? patience(stack) : 0;
		if (wait > deadline - now_ms())
			wait = deadline - now_ms();
		if (wait <= 0 || poll(&p, 1, (int)wait) <= 0 || lseek(fd, 0, SEEK_SET) < 0)
			return r;
		stack_free(stack);
	}
}

static int stacks_add(const struct mount *m, struct stacks *stacks, const char *site, int64_t deadline)
{
	struct site_stack *s = &stacks->list[stacks->count];
	char name[64];
	int fd, r;

	snprintf(name, sizeof(name), "stacks/%.32s", site);
	fd = open_in(m, name, O_RDONLY);
	if (fd < 0)
		return fd == -ENOMEM ? fd : 0;
	*s = (struct site_stack){ .site = site };
	r = read_stack(fd, deadline, &s->stack);
	close(fd);
	if (r == 0)
		stacks->count++;
	else
		stack_free(&s->stack);
	return r == -ENOMEM ? r : 0;
}

int mount_stacks(const struct mount *m, const struct leak_list *list, struct stacks *stacks)
{
	const int64_t deadline = now_ms() + NAMES_ALL_MS;
	const char *site = LEAK_NO_SITE;
	size_t i, sites = 0;
	int r = 0;

	for (i = 0; i < list->count; i++)
		sites += i == 0 || strcmp(list->leaks[i].site, list->leaks[i - 1].site) != 0;
	*stacks = (struct stacks){ .list = calloc(sites + 1, sizeof(struct site_stack)) };
	if (!stacks->list)
		return -ENOMEM;
	for (i = 0; i < list->count && r == 0; i++) {
		if (strcmp(list->leaks[i].site, site) == 0)
			continue;
		site = list->leaks[i].site;
		if (strcmp(site, LEAK_NO_SITE) != 0)
			r = stacks_add(m, stacks, site, deadline);
	}
	if (r < 0)
		stacks_free(stacks);
	return r;
}

void stacks_free(struct stacks *stacks)
{
	size_t i;

	for (i = 0; i < stacks->count; i++)
		stack_free(&stacks->list[i].stack);
	free(stacks->list);
	*stacks = (struct stacks){ 0 };
}

static int compare_site(const void *key, const void *element)
{
	return strcmp(key, ((const struct site_stack *)element)->site);
}

const struct stack *stacks_find(const struct stacks *stacks, const char *site)
{
	const struct site_stack *s = stacks->count > 0 ?
		bsearch(site, stacks->list, stacks->count, sizeof(*s), compare_site) : NULL;

	return s ? &s->stack : NULL;
}

/* --- what a command left --- */

enum whose { THEIRS, STRANGER, OTHER, EARLIER };

/* What pids/<pid>/status says of a process. */
struct person {
	enum whose whose;
	bool live;
	bool holds;
	uint64_t lost;             /* events that it could not report */
	struct odd_frees odd;      /* numbers only */
};

static uint64_t time_us(const char *text)
{
	char *end;
	const uint64_t seconds = strtoull(text, &end, 10);

	return seconds * 1000000 + (*end == '.' ? strtoull(end + 1, NULL, 10) : 0);
}

static enum whose whose_is(const char *status, const struct run_scope *scope)
{
	size_t length;
	const char *list = value_of(status, "ancestors", "\n", &length), *end = list + length;
	long pid = 0;
	char *next;

	/* A pid that was used again: of a process that was there before, the ancestors mean nobody of today. */
	if (time_us(value_of(status, "connected", "\n", &length)) < scope->since_us)
		return EARLIER;
	while (list < end) {
		pid = strtol(list, &next, 10);
		if (pid == scope->runner)
			return THEIRS;
		if (next == list)
			break;
		list = next;
	}
	/* Of a list that does not go up to the first process, the rest is not known. */
	return pid == 1 ? OTHER : STRANGER;
}

static bool holds(const char *status)
{
	const char *at;

	for (at = status; (at = strstr(at, "_count ")); at++)
		if (at[7] != '0')
			return true;
	return false;
}

/* 0; -ENOENT: it has been forgotten in between. */
static int read_person(const struct mount *m, const char *pid, const struct run_scope *scope, struct person *p)
{
	char name[64], *status;
	size_t length;
	int r;

	snprintf(name, sizeof(name), "pids/%.20s/status", pid);
	r = mount_text(m, name, &status);
	if (r < 0)
		return r == -ESTALE ? -ENOENT : r;
	p->whose = whose_is(status, scope);
	p->live = strncmp(value_of(status, "state", "\n", &length), "live", 4) == 0;
	p->holds = holds(status);
	p->lost = strtoull(value_of(status, "lost", "\n", &length), NULL, 10);
	p->odd = (struct odd_frees){ 0 };
	odd_frees_count(&p->odd, status);
	free(status);
	return 0;
}

/* What is left when the reason is not said: held by a process that lives on. */
static int read_held(const struct mount *m, const char *pid, const struct person *p, struct leak_list *list)
{
	const size_t before = list->count;
	char name[64], *table;
	size_t i;
	int r;

	snprintf(name, sizeof(name), "pids/%.20s/allocs", pid);
	r = mount_text(m, name, &table);
	if (r < 0)
		return r == -ENOENT || r == -ESTALE ? 0 : r;
	r = leak_list_read(list, table);
	free(table);
	for (i = before; i < list->count; i++)
		list->leaks[i].reason = p->live ? "outlived" : "died";
	return r;
}

static int add_sums(const struct mount *m, const char *pid, struct leak_sum *sum)
{
	const struct person any = { .live = true };
	struct leak_list list = { 0 };
	size_t i;
	int r = read_held(m, pid, &any, &list);

	for (i = 0; i < list.count; i++) {
		sum->count++;
		sum->bytes += list.leaks[i].size;
	}
	leak_list_free(&list);
	return r;
}

/* On a server of their own, whoever came and went too quickly to be looked at was theirs. */
static bool is_theirs(const struct person *p, const struct run_scope *scope)
{
	return p->whose == THEIRS || (p->whose == STRANGER && scope->is_private);
}

static void add_person(const struct person *p, struct leak_report *report)
{
	report->processes++;
	report->lost += p->lost;
	report->odd.twice += p->odd.twice;
	report->odd.unknown += p->odd.unknown;
	report->odd.foreign += p->odd.foreign;
}

static int take_process(const struct mount *m, const char *pid, const struct run_scope *scope, struct leak_list *list,
			struct leak_report *report)
{
	struct person p;
	int r = read_person(m, pid, scope, &p);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (is_theirs(&p, scope))
		add_person(&p, report);
	if (!p.holds || p.whose == EARLIER)
		return 0;
	if (is_theirs(&p, scope))
		return read_held(m, pid, &p, list);
	if (p.whose == STRANGER)
		return add_sums(m, pid, &report->strangers);
	return scope->is_private ? add_sums(m, pid, &report->others) : 0;
}

static int compare_seq(const void *left, const void *right)
{
	const struct leak *a = left, *b = right;

	return (a->seq > b->seq) - (a->seq < b->seq);
}

/* The server's reason, where it has one. */
static int take_reasons(const struct mount *m, struct leak_list *list, struct leak_list *suspects)
{
	const struct leak *s;
	char *table;
	size_t i;
	int r = mount_text(m, "suspects", &table);

	if (r < 0)
		return r;
	r = leak_list_read(suspects, table);
	free(table);
	if (r < 0 || suspects->count == 0)
		return r;
	qsort(suspects->leaks, suspects->count, sizeof(struct leak), compare_seq);
	for (i = 0; i < list->count; i++) {
		s = bsearch(&list->leaks[i], suspects->leaks, suspects->count, sizeof(*s), compare_seq);
		if (s && s->reason && strcmp(s->reason, "growing") == 0)
			list->leaks[i].reason = "growing";
		else if (s && s->reason && strcmp(s->reason, "died") == 0)
			list->leaks[i].reason = "died";
	}
	return 0;
}

/* Processes that the server cannot see, in another pid namespace, have no directory. */
static int take_unseen(const struct mount *m, const struct run_scope *scope, struct leak_list *list,
		       struct leak_report *r)
{
	struct leak_list all = { 0 };
	struct leak *l;
	char *table;
	size_t i;
	int result = mount_text(m, scope->is_private ? "allocs" : "suspects", &table);

	if (result < 0)
		return result;
	result = leak_list_read(&all, table);
	free(table);
	for (i = 0; i < all.count && result == 0; i++) {
		l = &all.leaks[i];
		if (l->pid != 0 || l->time_us < scope->since_us)
			continue;
		if (!scope->is_private) {
			r->strangers.count++;
			r->strangers.bytes += l->size;
			continue;
		}
		l->reason = "outlived";
		result = leak_list_add(list, l);
		if (result == 0)
			l->row = NULL;
	}
	leak_list_free(&all);
	return result;
}

/* Whose a pid of the trace is. One line after the other is of the same. */
struct question {
	const struct mount *mount;
	const struct run_scope *scope;
	char pid[24];
	bool is_theirs;
};

static bool is_pid_theirs(void *data, const char *pid)
{
	struct question *q = data;
	struct person p;

	if (strcmp(pid, q->pid) != 0) {
		snprintf(q->pid, sizeof(q->pid), "%s", pid);
		q->is_theirs = read_person(q->mount, pid, q->scope, &p) == 0 && is_theirs(&p, q->scope);
	}
	return q->is_theirs;
}

static int take_double_frees(const struct mount *m, const struct run_scope *scope, struct odd_frees *odd)
{
	struct question q = { .mount = m, .scope = scope };
	char *trace;
	int r = odd->twice > 0 ? mount_text(m, "trace", &trace) : -ENOENT;

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = odd_frees_take(odd, trace, is_pid_theirs, &q);
	free(trace);
	return r == 0 ? odd_frees_group(odd) : r;
}

/* A server remembers thousands of processes, and a directory's time says when one came, to the second at least. */
static bool was_there(DIR *dir, const char *pid, const struct run_scope *scope)
{
	struct stat st;

	return fstatat(dirfd(dir), pid, &st, 0) == 0 && (uint64_t)st.st_mtime + 1 < scope->since_us / 1000000;
}

int mount_left_by(const struct mount *m, const struct run_scope *scope, struct leak_list *list, struct leak_report *r)
{
	struct leak_list suspects = { 0 };
	struct dirent *entry;
	char *path;
	DIR *dir;
	int result = 0;

	if (asprintf(&path, "%s/pids", m->path) < 0)
		return -ENOMEM;
	dir = opendir(path);
	free(path);
	if (!dir)
		return -errno;
	while (result == 0 && (entry = readdir(dir)))
		if (entry->d_name[0] != '.' && !was_there(dir, entry->d_name, scope))
			result = take_process(m, entry->d_name, scope, list, r);
	closedir(dir);
	if (result == 0)
		result = take_unseen(m, scope, list, r);
	if (result == 0)
		result = take_reasons(m, list, &suspects);
	if (result == 0)
		result = take_double_frees(m, scope, &r->odd);
	leak_list_free(&suspects);
	return result;
}
