/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bench-util.h - what the parts of the benchmark share: figures, clocks, processors, and a server of our own.
 *
 * A part measures and calls figure(); which figures were asked for and how they are printed is decided here. Whatever
 * goes wrong ends the program through die(), which also ends the processes that were started. Nothing here asserts a
 * time: these machines are shared and noisy.
 */
#ifndef TESTS_BENCH_UTIL_H
#define TESTS_BENCH_UTIL_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define REPEATS 5       /* a figure is the median of so many short measurements */
#define CPU_CLIENT 0    /* where what reports and what reads runs, */
#define CPU_SERVER 1    /* and where what answers does; the same when there is one processor only */

#define MANY 1000000    /* live buffers where a line says 1m */
#define BASE_ADDRESS UINT64_C(0x40000000)
#define BUFFER_SIZE 4096

/* ---- figures ---- */

/* Which ones are wanted (count 0: all), and whether they are printed at once, or after several passes with the median
 * and the range. */
void figures_init(char **names, int count, bool passes);
bool want(const char *name);
void figure(const char *name, double value, const char *unit);
/* One that cannot be measured here; `why` is one word. */
void figure_missing(const char *name, const char *why);
/* After the last pass. */
void figures_print(void);

/* Of n > 0 values, which are sorted. */
double quantile(double *v, size_t n, double q);
double median(double *v, size_t n);

/* ---- clocks and processors ---- */

double seconds(void);         /* CLOCK_MONOTONIC */
double seconds_busy(void);    /* of this thread on a processor: what others take from it does not count */
/* Of all threads of a process on a processor. */
double seconds_of(pid_t pid);
unsigned cpu_count(void);
void pin_self(int cpu);
void pin_process(pid_t pid, int cpu);
/* With `nice -n -N bench` all that we start goes before others. For that each session needs to be told: the kernel
 * shares a processor between sessions first, and only then within one. */
void share_like_us(pid_t pid);
/* Before everybody else on this processor, where that is allowed: for threads that measure how long others take. */
void hurry_self(void);

/* ---- other programs ---- */

_Noreturn void die(const char *what);
/* The path of a program in the folder of this one, or of `relative` to it. Static until the next call. */
const char *beside(const char *relative);
/* Starts a program on CPU_SERVER and waits for the first byte of its output, unless outp is NULL. */
pid_t start(const char *const argv[], int *outp);
/* Runs a program to its end; the status of waitpid(2). What it writes is thrown away, or as much of its standard output
 * as fits is a string in `text`. */
int run(const char *const argv[]);
int run_output(const char *const argv[], char *text, size_t size);
/* Asks a child to end and waits for it. */
void stop(pid_t child);
/* Remembers a process, so that die() ends it, too, and the folder that it leaves empty (NULL: none). */
void ours(pid_t pid, const char *folder);
void not_ours(pid_t pid);
/* May be called from a signal handler. */
void end_ours(void);

/* ---- a server of our own ---- */

struct server {
	char dir[64];
	char mount[96];
	char socket[96];
	pid_t pid;
};

extern const char *server_path;

void server_start(struct server *s);
void server_stop(struct server *s);
void path_of(const struct server *s, char *out, size_t size, const char *file);
/* Reads a file of the mount to its end; returns the bytes. */
size_t slurp(const struct server *s, const char *file, char *keep, size_t size);
size_t slurp_path(const char *path, char *keep, size_t size);
/* A value of `stats`; `missing` if it has no such key. */
long stat_value(const struct server *s, const char *key, long missing);
/* Seconds of one open-read-close, mean of `rounds`. */
double open_read_close(const char *path, int rounds);
void control(const struct server *s, const char *command);

/* ---- a sender as the existing clients are ---- */

int connect_to(const char *path);
/* A message of `dialect` bytes. */
void message(uint8_t *m, unsigned dialect, bool alloc, uint64_t address);
void send_all(int fd, const uint8_t *data, size_t len);
/* Buffers number from..to-1 come to be; many messages per send. */
void fill(int fd, uint64_t from, uint64_t to);
/* A child that takes one connection, reads and discards; returns the connection. End: close it, then reap(). */
int sink_start(const char *path, pid_t *child);
void sink_reap(pid_t child);

/* ---- random churn around MANY live buffers ---- */

/* Every second of CHURN_SLOTS addresses is live at first. Each event takes one at random: who is live is freed, who is
 * not is allocated. So about half stay live, and no event finds its place in a cache. */
#define CHURN_SLOTS (UINT64_C(1) << 21)
static_assert(CHURN_SLOTS / 2 >= MANY, "a million stay live");

struct churn {
	uint64_t random;
	uint64_t live[CHURN_SLOTS / 64];
};

void churn_init(struct churn *c, uint64_t seed);
/* true: allocate at *address, else free it. */
static inline bool churn_next(struct churn *c, uint64_t *address)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	uint64_t slot = (c->random >> 20) % CHURN_SLOTS;
	uint64_t bit = UINT64_C(1) << slot % 64;
	c->live[slot / 64] ^= bit;
	*address = BASE_ADDRESS + slot * BUFFER_SIZE;
	return c->live[slot / 64] & bit;
}

#endif
