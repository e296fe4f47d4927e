/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bench-mount.c - what those who read the mount wait for, and how often the server wakes up for nobody.
 *
 * The floor is bench-fuse.c, a FUSE server with one file. Where single latencies count and not means, the reader is a
 * thread that goes before everybody else on its processor (hurry_self()): it waits for the server, not for other
 * readers.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/ttalloc-proto.h"
#include "tests/bench-load.h"
#include "tests/bench-parts.h"
#include "tests/bench-util.h"

#define ROUNDS 500
#define LOAD_RATE 5e6   /* beside which a summary is read */
#define EASY_RATE 1e6   /* which the server takes in with ease beside a large table */
#define LOAD_SECONDS 2.0
#define PROBE_SECONDS 2.0
#define SAMPLES_MAX 400000
#define IDLE_SECONDS 3
#define WARM_BURSTS 16       /* until history is full and every table has its size */
#define QUIET_NS 500000000L  /* until a ring's server has gone to sleep */

/* ---- an empty FUSE server ---- */

struct floor {
	char dir[64];
	char file[80];
	pid_t pid;
	int output;
};

static void floor_start(struct floor *f)
{
	char *program = strdup(beside("bench-fuse"));

	strcpy(f->dir, "/tmp/ttalloc-bench-fuse-XXXXXX");
	if (!program || !mkdtemp(f->dir))
		die("mkdtemp");
	snprintf(f->file, sizeof(f->file), "%s/record", f->dir);
	f->pid = start((const char *const[]){ program, f->dir, NULL }, &f->output);
	not_ours(f->pid);
	ours(f->pid, f->dir);
	free(program);
}

static void floor_stop(struct floor *f)
{
	stop(f->pid);
	close(f->output);
	if (rmdir(f->dir) < 0)
		die(f->dir);
}

/* ---- latencies ---- */

struct probe {
	const char *path;
	int schedule[2]; /* schedstat of the server and of the thread that measures */
	double *sample;  /* seconds of one open-read-close each */
	double *own;     /* the same without the time in which either had to wait for its processor */
	size_t count;
	pthread_t thread;
	atomic_bool stop;
};

static int open_schedule(const char *process)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%s/schedstat", process);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(path);
	return fd;
}

/* Seconds in which one of both was ready to run and something else did. */
static double waited(const struct probe *p)
{
	unsigned long long sum = 0, ns;
	char text[128];

	for (int i = 0; i < 2; i++) {
		ssize_t n = pread(p->schedule[i], text, sizeof(text) - 1, 0);
		text[n < 0 ? 0 : n] = '\0';
		if (sscanf(text, "%*u %llu", &ns) != 1)
			die("schedstat");
		sum += ns;
	}
	return (double)sum * 1e-9;
}

static void *probe_run(void *data)
{
	struct probe *p = data;
	double before, after;

	pin_self(CPU_CLIENT);
	hurry_self();
	p->schedule[1] = open_schedule("thread-self");
	before = waited(p);
	for (; !p->stop && p->count < SAMPLES_MAX; before = after) {
		double t = open_read_close(p->path, 1);
		after = waited(p);
		p->sample[p->count] = t;
		p->own[p->count++] = t > after - before ? t - (after - before) : 0;
	}
	return NULL;
}

static void probe_start(struct probe *p, const char *path, pid_t server)
{
	char process[16];

	snprintf(process, sizeof(process), "%d", (int)server);
	*p = (struct probe){
		.path = path,
		.schedule = { open_schedule(process) },
		.sample = calloc(SAMPLES_MAX, sizeof(double)),
		.own = calloc(SAMPLES_MAX, sizeof(double)),
	};
	if (!p->sample || !p->own)
		die("probe");
	errno = pthread_create(&p->thread, NULL, probe_run, p);
	if (errno)
		die("probe");
}

static void probe_stop(struct probe *p)
{
	p->stop = true;
	pthread_join(p->thread, NULL);
	close(p->schedule[0]);
	close(p->schedule[1]);
}

static void probe_free(struct probe *p)
{
	free(p->sample);
	free(p->own);
}

static void latency_figure(double *latency, size_t n, const char *name, double q)
{
	figure(name, quantile(latency, n, q) * 1e6, "us");
}

static void sleep_ns(long ns)
{
	struct timespec t = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	while (nanosleep(&t, &t) < 0)
		;
}

/* ---- with 10 and with a million buffers ---- */

static double orc_us(const char *path)
{
	double v[REPEATS];

	for (int i = 0; i < REPEATS; i++)
		v[i] = open_read_close(path, ROUNDS) * 1e6;
	return median(v, REPEATS);
}

static void print_record(const struct server *s)
{
	double record[REPEATS], empty[REPEATS], ratio[REPEATS];
	struct floor f;
	char path[160];

	if (!want("record_orc_us") && !want("baseline_empty_fuse_orc_us") && !want("record_orc_ratio"))
		return;
	path_of(s, path, sizeof(path), "device0/dram/0x000040000000");
	floor_start(&f);
	for (int i = 0; i < REPEATS; i++) {
		record[i] = open_read_close(path, ROUNDS) * 1e6;
		empty[i] = open_read_close(f.file, ROUNDS) * 1e6;
		ratio[i] = record[i] / empty[i];
	}
	floor_stop(&f);
	figure("record_orc_us", median(record, REPEATS), "us");
	figure("baseline_empty_fuse_orc_us", median(empty, REPEATS), "us");
	figure("record_orc_ratio", median(ratio, REPEATS), "x");
}

static void print_cat(const struct server *s)
{
	double v[REPEATS];

	if (!want("cat_allocs_1m_s"))
		return;
	for (int i = 0; i < REPEATS; i++) {
		double t = seconds();
		slurp(s, "allocs", NULL, 0);
		v[i] = seconds() - t;
	}
	figure("cat_allocs_1m_s", median(v, REPEATS), "s");
}

static long list(const char *path)
{
	long n = -2;
	DIR *d = opendir(path);

	if (!d)
		die(path);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void print_ls(const struct server *s)
{
	double v[REPEATS];
	char path[160];

	if (!want("ls_1m_s"))
		return;
	path_of(s, path, sizeof(path), "device0/dram");
	for (int i = 0; i < REPEATS; i++) {
		double t = seconds();
		if (list(path) != MANY) {
			errno = EIO;
			die("ls did not list every buffer");
		}
		v[i] = seconds() - t;
	}
	figure("ls_1m_s", median(v, REPEATS), "s");
}

static double resident_bytes(pid_t pid)
{
	char path[64];
	long pages = 0;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	FILE *f = fopen(path, "r");
	if (!f || fscanf(f, "%*d %ld", &pages) != 1)
		die(path);
	fclose(f);
	return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void fill_to(const struct server *s, int fd, uint64_t from, uint64_t to)
{
	fill(fd, from, to);
	if (stat_value(s, "live_buffers", 0) != (long)to) {
		errno = EIO;
		die("not every buffer was booked");
	}
}

void bench_views(void)
{
	struct server s;
	char summary[160];

	server_start(&s);
	path_of(&s, summary, sizeof(summary), "device0/summary");
	int fd = connect_to(s.socket);
	fill_to(&s, fd, 0, 10);
	double ten = orc_us(summary);
	double before = resident_bytes(s.pid);
	fill_to(&s, fd, 10, MANY);
	figure("bytes_per_live_buffer", (resident_bytes(s.pid) - before) / (MANY - 10), "B");
	double many = orc_us(summary);
	figure("summary_10_us", ten, "us");
	figure("summary_1m_us", many, "us");
	figure("summary_1m_ratio", many / ten, "x");
	print_record(&s);
	print_cat(&s);
	print_ls(&s);
	close(fd);
	server_stop(&s);
}

/* ---- while events come in ---- */

static void warm_up(struct load *l)
{
	for (int i = 0; i < WARM_BURSTS; i++) {
		load_churn(l, BURST);
		load_sync(l->client);
	}
}

static void probe_summary(const struct server *s, struct load *l, struct probe *p, double rate)
{
	char summary[160];

	path_of(s, summary, sizeof(summary), "device0/summary");
	load_start(l, rate);
	probe_start(p, summary, s->pid);
	sleep_ns((long)(LOAD_SECONDS * 1e9));
	probe_stop(p);
	load_stop(l);
}

void bench_under_load(void)
{
	struct server s;
	struct probe p;
	struct load l;

	server_start(&s);
	load_fill(&l, &s);
	warm_up(&l);
	probe_summary(&s, &l, &p, EASY_RATE);
	latency_figure(p.sample, p.count, "summary_p99_us_under_1m_load", 0.99);
	probe_free(&p);
	probe_summary(&s, &l, &p, LOAD_RATE);
	latency_figure(p.sample, p.count, "summary_p50_us_under_load", 0.5);
	latency_figure(p.sample, p.count, "summary_p99_us_under_load", 0.99);
	latency_figure(p.own, p.count, "summary_own_p99_us_under_load", 0.99);
	probe_free(&p);
	figure("load_events_per_s", l.achieved, "1/s");
	figure("load_dropped_events", load_dropped(l.client), "count");
	load_free(&l);
	server_stop(&s);
}

/* ---- the longest turn of the loop ---- */

static void probe_floor(void)
{
	struct floor f;
	struct probe p;

	floor_start(&f);
	probe_start(&p, f.file, f.pid);
	sleep_ns((long)(PROBE_SECONDS * 1e9));
	probe_stop(&p);
	floor_stop(&f);
	latency_figure(p.sample, p.count, "baseline_probe_p99_us", 0.99);
	latency_figure(p.sample, p.count, "baseline_probe_max_us", 1);
	latency_figure(p.own, p.count, "baseline_probe_own_max_us", 1);
	probe_free(&p);
}

/* How long this thread thinks it was at work between two looks at its own processor time, when it does nothing else: what
 * a virtual machine takes without saying so. */
static double spin_gap_us(void)
{
	double longest = 0, end = seconds() + PROBE_SECONDS;
	struct timespec t, last;

	pin_self(CPU_SERVER);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &last);
	while (seconds() < end) {
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
		double gap = (double)(t.tv_sec - last.tv_sec) * 1e6 + (double)(t.tv_nsec - last.tv_nsec) / 1e3;
		if (gap > longest)
			longest = gap;
		last = t;
	}
	pin_self(CPU_CLIENT);
	return longest;
}

/* The longest turn by the server's own processor time, and how many of a million took more than a millisecond. */
struct turns {
	long all;
	long long_ones;
};

static void turns_begin(const struct server *s, struct turns *t)
{
	char ctl[160];

	path_of(s, ctl, sizeof(ctl), "ctl");
	FILE *f = fopen(ctl, "w");
	if (!f || fputs("reset peaks\n", f) < 0 || fclose(f) != 0)
		die(ctl);
	t->all = stat_value(s, "turns", 0);
	t->long_ones = stat_value(s, "turns_over_1ms", 0);
}

static void turns_end(const struct server *s, const struct turns *t, const char *longest, const char *share)
{
	double all = (double)(stat_value(s, "turns", 0) - t->all);

	figure(longest, (double)stat_value(s, "turn_max_us", 0), "us");
	figure(share, (double)(stat_value(s, "turns_over_1ms", 0) - t->long_ones) / all * 1e6, "1/million");
}

/* Whoever opens and reads `version` waits for the turn that is under way, and then for his own request. */
static void probe_table(const struct server *s, struct load *l, struct probe *p)
{
	char version[160];

	path_of(s, version, sizeof(version), "version");
	load_start(l, EASY_RATE);
	probe_start(p, version, s->pid);
	for (double t = seconds(); seconds() - t < PROBE_SECONDS;)
		slurp(s, "allocs", NULL, 0);
	probe_stop(p);
	load_stop(l);
}

void bench_stall(void)
{
	struct server s;
	struct turns t;
	struct probe p;
	struct load l;

	server_start(&s);
	load_fill(&l, &s);
	turns_begin(&s, &t);
	probe_table(&s, &l, &p);
	turns_end(&s, &t, "turn_max_us", "turns_over_1ms");
	latency_figure(p.sample, p.count, "loop_stall_p99_us", 0.99);
	latency_figure(p.sample, p.count, "loop_stall_max_us", 1);
	latency_figure(p.own, p.count, "loop_stall_own_max_us", 1);
	probe_free(&p);
	warm_up(&l);
	turns_begin(&s, &t);
	probe_table(&s, &l, &p);
	turns_end(&s, &t, "turn_steady_max_us", "turns_steady_over_1ms");
	latency_figure(p.sample, p.count, "loop_stall_steady_p99_us", 0.99);
	latency_figure(p.sample, p.count, "loop_stall_steady_max_us", 1);
	latency_figure(p.own, p.count, "loop_stall_steady_own_max_us", 1);
	probe_free(&p);
	if (load_dropped(l.client) > 0)
		fprintf(stderr, "bench: %.0f events were dropped beside the table\n", load_dropped(l.client));
	load_free(&l);
	server_stop(&s);
	probe_floor();
	figure("baseline_spin_gap_max_us", spin_gap_us(), "us");
}

/* ---- idle ---- */

static long switches_of_thread(const char *task, const char *thread)
{
	char path[400], line[256];
	long sum = 0, n;

	snprintf(path, sizeof(path), "%s/%s/status", task, thread);
	FILE *f = fopen(path, "r");
	if (!f)
		die(path);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1 ||
		    sscanf(line, "nonvoluntary_ctxt_switches: %ld", &n) == 1)
			sum += n;
	fclose(f);
	return sum;
}

static long switches(pid_t pid)
{
	struct dirent *e;
	char task[64];
	long sum = 0;

	snprintf(task, sizeof(task), "/proc/%d/task", (int)pid);
	DIR *d = opendir(task);
	if (!d)
		die(task);
	while ((e = readdir(d)))
		if (*e->d_name != '.')
			sum += switches_of_thread(task, e->d_name);
	closedir(d);
	return sum;
}

static double wakeups_per_s(const struct server *s)
{
	sleep_ns(QUIET_NS);
	long before = switches(s->pid);
	sleep_ns(IDLE_SECONDS * 1000000000L);
	return (double)(switches(s->pid) - before) / IDLE_SECONDS;
}

void bench_idle(void)
{
	struct server s;

	server_start(&s);
	if (want("idle_wakeups_per_s"))
		figure("idle_wakeups_per_s", wakeups_per_s(&s), "1/s");
	if (want("idle_wakeups_one_client_per_s")) {
		struct ttalloc *t = load_open(&s);
		ttalloc_alloc(t, 0, TTALLOC_DRAM, BASE_ADDRESS, BUFFER_SIZE);
		load_sync(t);
		figure("idle_wakeups_one_client_per_s", wakeups_per_s(&s), "1/s");
		ttalloc_close(t);
	}
	server_stop(&s);
}
