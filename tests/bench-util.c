/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bench-util.c - see bench-util.h.
 */
#include "tests/bench-util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/ttalloc-proto.h"

#define FIGURES_MAX 64
#define PASSES_MAX 100
#define OURS_MAX 8
#define END_MS 10000

/* ---- figures ---- */

struct kept_figure {
	const char *name;
	const char *unit;
	const char *missing;  /* why; NULL = it was measured */
	double value[PASSES_MAX];
	size_t passes;
};

static struct kept_figure kept[FIGURES_MAX];
static size_t kept_count;
static bool keep;
static char **wanted;
static int wanted_count;

void figures_init(char **names, int count, bool passes)
{
	wanted = names;
	wanted_count = count;
	keep = passes;
}

bool want(const char *name)
{
	for (int i = 0; i < wanted_count; i++)
		if (strcmp(wanted[i], name) == 0)
			return true;
	return wanted_count == 0;
}

static struct kept_figure *kept_of(const char *name)
{
	for (size_t i = 0; i < kept_count; i++)
		if (strcmp(kept[i].name, name) == 0)
			return &kept[i];
	if (kept_count == FIGURES_MAX) {
		errno = ENOSPC;
		die(name);
	}
	kept[kept_count].name = name;
	return &kept[kept_count++];
}

void figure(const char *name, double value, const char *unit)
{
	struct kept_figure *f;

	if (!want(name))
		return;
	if (!keep) {
		printf("%s %.6g %s\n", name, value, unit);
		fflush(stdout);
		return;
	}
	f = kept_of(name);
	f->unit = unit;
	if (f->passes < PASSES_MAX)
		f->value[f->passes++] = value;
}

void figure_missing(const char *name, const char *why)
{
	if (!want(name))
		return;
	if (keep)
		kept_of(name)->missing = why;
	else
		printf("%s - %s\n", name, why);
}

void figures_print(void)
{
	for (size_t i = 0; i < kept_count; i++) {
		struct kept_figure *f = &kept[i];
		if (!f->passes) {
			printf("%s - %s\n", f->name, f->missing);
			continue;
		}
		double middle = median(f->value, f->passes);
		printf("%s %.6g %s %.6g %.6g\n", f->name, middle, f->unit, f->value[0], f->value[f->passes - 1]);
	}
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double quantile(double *v, size_t n, double q)
{
	qsort(v, n, sizeof(*v), compare);
	return v[(size_t)((double)(n - 1) * q + 0.5)];
}

double median(double *v, size_t n)
{
	return quantile(v, n, 0.5);
}

/* ---- clocks and processors ---- */

static double seconds_on(clockid_t clock)
{
	struct timespec t;

	if (clock_gettime(clock, &t) < 0)
		die("clock");
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double seconds(void)
{
	return seconds_on(CLOCK_MONOTONIC);
}

double seconds_busy(void)
{
	return seconds_on(CLOCK_THREAD_CPUTIME_ID);
}

double seconds_of(pid_t pid)
{
	clockid_t clock;

	errno = clock_getcpuclockid(pid, &clock);
	if (errno)
		die("clock of a process");
	return seconds_on(clock);
}

unsigned cpu_count(void)
{
	return (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
}

/* Where there are not enough processors everybody runs anywhere. */
static void pin(pid_t thread, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu, &set);
	if (cpu_count() > 1)
		(void)sched_setaffinity(thread, sizeof(set), &set);
}

void pin_self(int cpu)
{
	pin(0, cpu);
}

void pin_process(pid_t pid, int cpu)
{
	char path[64];
	struct dirent *e;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *d = opendir(path);
	if (!d)
		die(path);
	while ((e = readdir(d)))
		if (*e->d_name != '.')
			pin(atoi(e->d_name), cpu);
	closedir(d);
}

void share_like_us(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/autogroup", (int)pid);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)!dprintf(fd, "%d", getpriority(PRIO_PROCESS, 0));
	close(fd);
}

void hurry_self(void)
{
	struct sched_param p = { .sched_priority = 10 };

	(void)sched_setscheduler(0, SCHED_FIFO, &p);
}

/* ---- other programs ---- */

struct started {
	pid_t pid;           /* 0: this place is free */
	const char *folder;
};
static struct started started[OURS_MAX];

void ours(pid_t pid, const char *folder)
{
	for (int i = 0; i < OURS_MAX; i++) {
		if (!started[i].pid) {
			started[i] = (struct started){ pid, folder };
			return;
		}
	}
}

void not_ours(pid_t pid)
{
	for (int i = 0; i < OURS_MAX; i++)
		if (started[i].pid == pid)
			started[i].pid = 0;
}

/* A child has to be waited for, or it is there for ever. */
static bool is_gone(pid_t pid)
{
	return waitpid(pid, NULL, WNOHANG) == pid || kill(pid, 0) < 0;
}

void end_ours(void)
{
	const struct timespec pause = { .tv_nsec = 10000000 };

	for (int i = 0; i < OURS_MAX; i++) {
		if (!started[i].pid)
			continue;
		kill(started[i].pid, SIGTERM);
		for (int ms = 0; ms < END_MS && !is_gone(started[i].pid); ms += 10)
			nanosleep(&pause, NULL);
		if (started[i].folder)
			(void)rmdir(started[i].folder);
	}
}

void die(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	end_ours();
	exit(1);
}

const char *beside(const char *relative)
{
	static char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (n < 0)
		die("/proc/self/exe");
	path[n] = '\0';
	char *name = strrchr(path, '/') + 1;
	snprintf(name, sizeof(path) - (size_t)(name - path), "%s", relative);
	return path;
}

static _Noreturn void become(const char *const argv[], int out)
{
	char *copy[16] = { NULL };

	for (size_t i = 0; i < 15 && argv[i]; i++)
		copy[i] = strdup(argv[i]);
	pin_self(CPU_SERVER);
	if (out >= 0)
		dup2(out, STDOUT_FILENO);
	execvp(copy[0], copy);
	_exit(127);
}

pid_t start(const char *const argv[], int *outp)
{
	int fds[2] = { -1, -1 };
	char byte;

	if (outp && pipe2(fds, O_CLOEXEC) < 0)
		die("pipe");
	pid_t child = fork();
	if (child == 0)
		become(argv, fds[1]);
	if (child < 0)
		die(argv[0]);
	ours(child, NULL);
	if (!outp)
		return child;
	close(fds[1]);
	if (read(fds[0], &byte, 1) != 1)
		die(argv[0]);
	*outp = fds[0];
	return child;
}

int run_output(const char *const argv[], char *text, size_t size)
{
	size_t length = 0;
	int fds[2], status;
	ssize_t n;

	if (pipe2(fds, O_CLOEXEC) < 0)
		die("pipe");
	pid_t child = fork();
	if (child == 0) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		dup2(null, STDERR_FILENO);
		become(argv, fds[1]);
	}
	close(fds[1]);
	while ((n = read(fds[0], text + length, size - 1 - length)) > 0)
		length += (size_t)n;
	text[length] = '\0';
	close(fds[0]);
	if (child < 0 || waitpid(child, &status, 0) < 0)
		die(argv[0]);
	return status;
}

int run(const char *const argv[])
{
	char text[4096];

	return run_output(argv, text, sizeof(text));
}

void stop(pid_t child)
{
	kill(child, SIGTERM);
	waitpid(child, NULL, 0);
	not_ours(child);
}

/* ---- a server of our own ---- */

const char *server_path;

void path_of(const struct server *s, char *out, size_t size, const char *file)
{
	if ((size_t)snprintf(out, size, "%s/%s", s->mount, file) >= size)
		die("path");
}

static pid_t server_pid(const struct server *s)
{
	char text[128];
	int pid = 0;

	slurp(s, "version", text, sizeof(text));
	if (sscanf(text, "ttalloc %*s abi %*d pid %d", &pid) != 1)
		die("version");
	return pid;
}

void server_start(struct server *s)
{
	const char *const argv[] = { server_path, "--mount", s->mount, "--socket", s->socket,
				     "--compat-socket", "none", "--log", "warning", NULL };
	int status;

	strcpy(s->dir, "/tmp/ttalloc-bench-XXXXXX");
	if (!mkdtemp(s->dir))
		die("mkdtemp");
	snprintf(s->mount, sizeof(s->mount), "%s/mnt", s->dir);
	snprintf(s->socket, sizeof(s->socket), "%s/sock", s->dir);
	/* It ends when the mount answers: the server has detached by then. */
	pid_t child = start(argv, NULL);
	if (waitpid(child, &status, 0) < 0 || status != 0) {
		rmdir(s->dir);
		errno = EIO;
		die(server_path);
	}
	not_ours(child);
	s->pid = server_pid(s);
	ours(s->pid, s->dir);
	pin_process(s->pid, CPU_SERVER);
	share_like_us(s->pid);
}

/* The server is nobody's child (it detached), so its end is seen through a pidfd. */
void server_stop(struct server *s)
{
	struct pollfd p = { .fd = (int)syscall(SYS_pidfd_open, s->pid, 0), .events = POLLIN };

	if (p.fd < 0 || kill(s->pid, SIGTERM) < 0 || poll(&p, 1, END_MS) != 1)
		die("the server does not end");
	close(p.fd);
	not_ours(s->pid);
	if (rmdir(s->mount) < 0 && errno != ENOENT)
		die(s->mount);
	if (rmdir(s->dir) < 0)
		die(s->dir);
}

size_t slurp_path(const char *path, char *copy, size_t size)
{
	static _Thread_local char buffer[1 << 17];
	size_t total = 0;
	ssize_t n;

	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(path);
	while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
		if (total + (size_t)n < size)
			memcpy(copy + total, buffer, (size_t)n);
		total += (size_t)n;
	}
	if (n < 0)
		die(path);
	close(fd);
	if (size)
		copy[total < size ? total : size - 1] = '\0';
	return total;
}

size_t slurp(const struct server *s, const char *file, char *copy, size_t size)
{
	char path[160];

	path_of(s, path, sizeof(path), file);
	return slurp_path(path, copy, size);
}

long stat_value(const struct server *s, const char *key, long missing)
{
	char text[8192];

	slurp(s, "stats", text, sizeof(text));
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		if (strncmp(line, key, strlen(key)) == 0 && line[strlen(key)] == ' ')
			return atol(line + strlen(key));
	return missing;
}

double open_read_close(const char *path, int rounds)
{
	double t = seconds();

	for (int i = 0; i < rounds; i++)
		slurp_path(path, NULL, 0);
	return (seconds() - t) / rounds;
}

void control(const struct server *s, const char *command)
{
	char path[160];

	path_of(s, path, sizeof(path), "ctl");
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, command, strlen(command)) < 0)
		die(command);
	close(fd);
}

/* ---- a sender as the existing clients are ---- */

int connect_to(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(a.sun_path, path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die(path);
	return fd;
}

void message(uint8_t *m, unsigned dialect, bool alloc, uint64_t address)
{
	struct ttalloc_msg_head head = {
		.type = alloc ? TTALLOC_MSG_ALLOC : TTALLOC_MSG_FREE,
		.size = alloc ? BUFFER_SIZE : 0,
		.process_id = getpid(),
		.buffer_id = address,
	};

	memset(m, 0, dialect);
	memcpy(m, &head, sizeof(head));
}

void send_all(int fd, const uint8_t *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
		if (n < 0)
			die("send");
		data += n;
		len -= (size_t)n;
	}
}

void fill(int fd, uint64_t from, uint64_t to)
{
	static uint8_t batch[1000 * TTALLOC_DIALECT_72];
	size_t n = 0;

	for (uint64_t i = from; i < to; i++) {
		message(batch + n++ * TTALLOC_DIALECT_72, TTALLOC_DIALECT_72, true, BASE_ADDRESS + i * BUFFER_SIZE);
		if (n == 1000 || i + 1 == to) {
			send_all(fd, batch, n * TTALLOC_DIALECT_72);
			n = 0;
		}
	}
}

static _Noreturn void sink(int listener)
{
	static char buffer[256 << 10];

	pin_self(CPU_SERVER);
	int fd = accept(listener, NULL, NULL);
	while (recv(fd, buffer, sizeof(buffer), 0) > 0)
		;
	_exit(0);
}

int sink_start(const char *path, pid_t *childp)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(a.sun_path, path);
	if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listener, 1) < 0)
		die(path);
	*childp = fork();
	if (*childp == 0)
		sink(listener);
	int fd = connect_to(path);
	close(listener);
	unlink(path);
	return fd;
}

void sink_reap(pid_t child)
{
	waitpid(child, NULL, 0);
}

/* ---- churn ---- */

void churn_init(struct churn *c, uint64_t seed)
{
	c->random = seed;
	for (size_t i = 0; i < CHURN_SLOTS / 64; i++)
		c->live[i] = UINT64_C(0x5555555555555555);
}
