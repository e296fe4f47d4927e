/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bench.c - what ttalloc costs, as `name value unit` lines, each beside a baseline of the same run.
 *
 *   bench [--server PATH] [NAME]...
 *
 * Without names all lines are printed. Starts a server of its own on a mount of its own and ends it. The sender runs
 * on the first processor, server and sink on the second, when there are two. Figures are medians of REPEATS runs;
 * the range is printed behind the unit. Nothing here asserts a time: these machines are shared and noisy.
 *
 *   ingest_socket_events_per_s   an unmodified dialect-72 sender, one blocking send() per event, until all is booked
 *   baseline_sink_events_per_s   the same sender into a reader that discards
 *   bytes_per_live_buffer        growth of the server's resident memory over 1 000 000 buffers
 *   summary_10_us, summary_1m_us open-read-close of device0/summary with 10 and with 1 000 000 live buffers
 *   record_orc_us                open-read-close of one buffer's record with 1 000 000 live buffers
 *   cat_allocs_1m_s, ls_1m_s     reading `allocs`, listing device0/dram, with 1 000 000 live buffers
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/ttalloc-proto.h"

#define REPEATS 5
#define SOCKET_EVENTS 400000
#define MANY 1000000
#define ROUNDS 2000

struct server {
	char dir[64];
	char mount[96];
	char socket[96];
	pid_t pid;
};

static const char *server_path = "ttallocd";
static char **wanted;
static int wanted_count;

static void die(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static bool want(const char *name)
{
	for (int i = 0; i < wanted_count; i++)
		if (strcmp(wanted[i], name) == 0)
			return true;
	return wanted_count == 0;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void pin(pid_t pid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu, &set);
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
		(void)sched_setaffinity(pid, sizeof(set), &set);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print(const char *name, double *v, int n, const char *unit)
{
	qsort(v, (size_t)n, sizeof(*v), compare);
	printf("%s %.6g %s range %.6g %.6g\n", name, v[n / 2], unit, v[0], v[n - 1]);
	fflush(stdout);
}

/* ---- a server of our own ---- */

static void path_of(const struct server *s, char *out, size_t size, const char *file)
{
	if ((size_t)snprintf(out, size, "%s/%s", s->mount, file) >= size)
		die("path");
}

static pid_t server_pid(const struct server *s)
{
	char path[160], text[128] = "";
	int pid = 0;

	path_of(s, path, sizeof(path), "version");
	FILE *f = fopen(path, "r");
	if (!f || !fgets(text, sizeof(text), f) || sscanf(text, "ttalloc %*s abi %*d pid %d", &pid) != 1)
		die(path);
	fclose(f);
	return pid;
}

static void server_start(struct server *s)
{
	int status;

	strcpy(s->dir, "/tmp/ttalloc-bench-XXXXXX");
	if (!mkdtemp(s->dir))
		die("mkdtemp");
	snprintf(s->mount, sizeof(s->mount), "%s/mnt", s->dir);
	snprintf(s->socket, sizeof(s->socket), "%s/sock", s->dir);
	pid_t child = fork();
	if (child == 0) {
		execl(server_path, server_path, "--mount", s->mount, "--socket", s->socket, "--compat-socket", "none",
		      (char *)NULL);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0)
		die(server_path);
	s->pid = server_pid(s);
	pin(s->pid, 1);
}

/* The server is nobody's child (it detached), so its end is seen through a pidfd. */
static void server_stop(struct server *s)
{
	struct pollfd p = { .fd = (int)syscall(SYS_pidfd_open, s->pid, 0), .events = POLLIN };

	if (p.fd < 0 || kill(s->pid, SIGTERM) < 0 || poll(&p, 1, 10000) != 1)
		die("the server does not end");
	close(p.fd);
	if (rmdir(s->mount) < 0 && errno != ENOENT)
		die(s->mount);
	if (rmdir(s->dir) < 0)
		die(s->dir);
}

/* Reads a file of the mount to its end; returns the bytes. */
static size_t slurp(const struct server *s, const char *file, char *keep, size_t size)
{
	static char buffer[1 << 17];
	char path[160];
	size_t total = 0;
	ssize_t n;

	path_of(s, path, sizeof(path), file);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(path);
	while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
		if (total + (size_t)n < size)
			memcpy(keep + total, buffer, (size_t)n);
		total += (size_t)n;
	}
	if (n < 0)
		die(path);
	close(fd);
	if (size)
		keep[total < size ? total : size - 1] = '\0';
	return total;
}

static long stat_value(const struct server *s, const char *key)
{
	char text[8192];

	slurp(s, "stats", text, sizeof(text));
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		if (strncmp(line, key, strlen(key)) == 0 && line[strlen(key)] == ' ')
			return atol(line + strlen(key));
	die(key);
	return -1;
}

static void control(const struct server *s, const char *command)
{
	char path[160];

	path_of(s, path, sizeof(path), "ctl");
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, command, strlen(command)) < 0)
		die(command);
	close(fd);
}

/* ---- a sender as the existing clients are ---- */

static int connect_to(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(a.sun_path, path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die(path);
	return fd;
}

static void message(uint8_t *m, bool alloc, uint64_t address)
{
	struct ttalloc_msg_head head = {
		.type = alloc ? TTALLOC_MSG_ALLOC : TTALLOC_MSG_FREE,
		.size = alloc ? 4096 : 0,
		.process_id = getpid(),
		.buffer_id = address,
	};

	memset(m, 0, TTALLOC_DIALECT_72);
	memcpy(m, &head, sizeof(head));
}

static void send_all(int fd, const uint8_t *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
		if (n < 0)
			die("send");
		data += n;
		len -= (size_t)n;
	}
}

/* Half of the events allocate, the other half free the same addresses. */
static void send_events(int fd)
{
	uint8_t m[TTALLOC_DIALECT_72];

	for (uint64_t i = 0; i < SOCKET_EVENTS; i++) {
		message(m, i < SOCKET_EVENTS / 2, 0x40000000 + i % (SOCKET_EVENTS / 2) * 4096);
		send_all(fd, m, sizeof(m));
	}
}

static void fill(int fd, uint64_t from, uint64_t to)
{
	static uint8_t batch[1000 * TTALLOC_DIALECT_72];
	size_t n = 0;

	for (uint64_t i = from; i < to; i++) {
		message(batch + n++ * TTALLOC_DIALECT_72, true, 0x40000000 + i * 4096);
		if (n == 1000 || i + 1 == to) {
			send_all(fd, batch, n * TTALLOC_DIALECT_72);
			n = 0;
		}
	}
}

/* ---- the lines ---- */

/* A child that accepts one connection, reads and discards, and ends with it. */
static double sink_rate(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(a.sun_path, path);
	if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listener, 1) < 0)
		die(path);
	pid_t child = fork();
	if (child == 0) {
		static char buffer[256 << 10];
		pin(0, 1);
		int fd = accept(listener, NULL, NULL);
		while (recv(fd, buffer, sizeof(buffer), 0) > 0)
			;
		_exit(0);
	}
	int fd = connect_to(path);
	double t = seconds();
	send_events(fd);
	close(fd);
	waitpid(child, NULL, 0);
	t = seconds() - t;
	close(listener);
	unlink(path);
	return SOCKET_EVENTS / t;
}

static double server_rate(const struct server *s)
{
	int fd = connect_to(s->socket);
	double t = seconds();

	send_events(fd);
	/* Reading shows everything sent before: when it answers, all is booked. */
	if (stat_value(s, "frees_total") % (SOCKET_EVENTS / 2) != 0)
		die("not everything was booked");
	t = seconds() - t;
	close(fd);
	return SOCKET_EVENTS / t;
}

static void bench_socket(struct server *s)
{
	double server[REPEATS], sink[REPEATS], ratio[REPEATS];
	char path[128];

	if (!want("ingest_socket_events_per_s") && !want("baseline_sink_events_per_s"))
		return;
	snprintf(path, sizeof(path), "%s/sink", s->dir);
	for (int i = 0; i < REPEATS; i++) {
		server[i] = server_rate(s);
		sink[i] = sink_rate(path);
		ratio[i] = server[i] / sink[i];
	}
	print("ingest_socket_events_per_s", server, REPEATS, "1/s");
	print("baseline_sink_events_per_s", sink, REPEATS, "1/s");
	print("ingest_socket_ratio", ratio, REPEATS, "x");
}

static double orc_us(const struct server *s, const char *file)
{
	double t = seconds();

	for (int i = 0; i < ROUNDS; i++)
		slurp(s, file, NULL, 0);
	return (seconds() - t) / ROUNDS * 1e6;
}

static void bench_orc(const struct server *s, const char *name, const char *file)
{
	double v[REPEATS];

	if (!want(name))
		return;
	for (int i = 0; i < REPEATS; i++)
		v[i] = orc_us(s, file);
	print(name, v, REPEATS, "us");
}

static long resident_bytes(pid_t pid)
{
	char path[64];
	long pages = 0;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	FILE *f = fopen(path, "r");
	if (!f || fscanf(f, "%*d %ld", &pages) != 1)
		die(path);
	fclose(f);
	return pages * sysconf(_SC_PAGESIZE);
}

static void bench_cat(const struct server *s)
{
	double v[REPEATS];

	if (!want("cat_allocs_1m_s"))
		return;
	for (int i = 0; i < REPEATS; i++) {
		double t = seconds();
		slurp(s, "allocs", NULL, 0);
		v[i] = seconds() - t;
	}
	print("cat_allocs_1m_s", v, REPEATS, "s");
}

static void bench_ls(const struct server *s)
{
	double v[REPEATS];
	char path[160];

	if (!want("ls_1m_s"))
		return;
	path_of(s, path, sizeof(path), "device0/dram");
	for (int i = 0; i < REPEATS; i++) {
		double t = seconds();
		long n = -2;
		DIR *d = opendir(path);
		if (!d)
			die(path);
		while (readdir(d))
			n++;
		closedir(d);
		v[i] = seconds() - t;
		if (n != MANY)
			die("ls did not list every buffer");
	}
	print("ls_1m_s", v, REPEATS, "s");
}

static void bench_views(struct server *s)
{
	int fd = connect_to(s->socket);

	control(s, "reset\n");
	fill(fd, 0, 10);
	bench_orc(s, "summary_10_us", "device0/summary");
	(void)stat_value(s, "live_buffers");
	double before = (double)resident_bytes(s->pid);
	fill(fd, 10, MANY);
	if (stat_value(s, "live_buffers") != MANY)
		die("not every buffer was booked");
	double bytes[1] = { ((double)resident_bytes(s->pid) - before) / (MANY - 10) };
	if (want("bytes_per_live_buffer"))
		print("bytes_per_live_buffer", bytes, 1, "B");
	bench_orc(s, "summary_1m_us", "device0/summary");
	bench_orc(s, "record_orc_us", "device0/dram/0x000040000000");
	bench_cat(s);
	bench_ls(s);
	close(fd);
}

int main(int argc, char **argv)
{
	struct server s = { 0 };

	if (argc > 2 && strcmp(argv[1], "--server") == 0) {
		server_path = argv[2];
		argv += 2;
		argc -= 2;
	}
	wanted = argv + 1;
	wanted_count = argc - 1;
	pin(0, 0);
	server_start(&s);
	bench_views(&s);
	control(&s, "reset\n");
	bench_socket(&s);
	server_stop(&s);
	return 0;
}
