/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * log.c - the server's log; the contract is in log.h.
 *
 * How it does not block, though standard error is a blocking descriptor that others share: a terminal or pipe is
 * opened a second time, so that the flag O_NONBLOCK is on a file description of our own; where that is not allowed it
 * is polled and then given no more than a pipe that polls as writable takes at once. A socket has MSG_DONTWAIT. What
 * epoll refuses (a regular file, /dev/null) never makes anybody wait and is written directly.
 */
#include "tracker/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024
#define BLOCK_BYTES 65504        /* of text; with its header and malloc's a little less than 64 KiB */
#define FLUSH_BYTES (256 << 10)  /* at most, per turn of the loop */
#define STALL_MS 1000

struct block {
	struct block *next;
	size_t used;
	char text[BLOCK_BYTES];
};

struct log {
	struct loop *loop;
	struct loop_source source;  /* added while something is queued */
	struct loop_timer stall;    /* set while somebody waits */
	enum log_level level;
	bool own_fd;                /* source.fd was opened by us */
	bool is_socket;
	bool direct;
	bool journal;
	struct block *first;
	struct block *last;
	size_t sent;                /* bytes of the first block that are out */
	uint64_t taken;             /* bytes ever queued */
	uint64_t gone;              /* bytes ever taken from the queue */
	uint64_t dropped;           /* lines, since the last one that said so */
	bool in_line;               /* what went last was not the end of a line */
	struct log_wait *waits;
	struct log_wait **waits_end;
};

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARNING] = "warning",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

static const char *const journal_prefixes[] = {
	[LOG_LEVEL_ERROR] = "<3>",
	[LOG_LEVEL_WARNING] = "<4>",
	[LOG_LEVEL_INFO] = "<6>",
	[LOG_LEVEL_DEBUG] = "<7>",
};

static const char *const plain_prefixes[] = {
	[LOG_LEVEL_ERROR] = "ttallocd: error: ",
	[LOG_LEVEL_WARNING] = "ttallocd: warning: ",
	[LOG_LEVEL_INFO] = "ttallocd: ",
	[LOG_LEVEL_DEBUG] = "ttallocd: debug: ",
};

/* ---- life ---- */

/* journald tells, in the environment of those it started, which device and inode its stream is. */
static bool is_journal(const struct stat *st)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char own[64];

	snprintf(own, sizeof(own), "%llu:%llu", (unsigned long long)st->st_dev, (unsigned long long)st->st_ino);
	return stream && !strcmp(stream, own);
}

/* The same terminal or pipe with a file description of our own, or `fd` itself where there cannot be one. */
static int reopen(int fd, const struct stat *st)
{
	char path[32];
	int own = -1;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (S_ISFIFO(st->st_mode) || isatty(fd))
		own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return own < 0 ? fd : own;
}

static void on_ready(struct loop_source *s, uint32_t events);
static void on_stall(struct loop_timer *t);

static int log_open(struct log *log, int fd)
{
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	log->is_socket = S_ISSOCK(st.st_mode);
	log->journal = is_journal(&st);
	log->source.fd = reopen(fd, &st);
	log->own_fd = log->source.fd != fd;
	r = loop_add(log->loop, &log->source, EPOLLOUT);
	loop_remove(log->loop, &log->source);
	log->direct = r == -EPERM;
	return log->direct ? 0 : r;
}

int log_new(struct log **logp, struct loop *loop, int fd, enum log_level level)
{
	struct log *log = calloc(1, sizeof(*log));
	int r;

	if (!log)
		return -ENOMEM;
	log->loop = loop;
	log->level = level;
	log->source.ready = on_ready;
	log->stall.expired = on_stall;
	log->waits_end = &log->waits;
	r = log_open(log, fd);
	if (r < 0) {
		log_free(log);
		return r;
	}
	*logp = log;
	return 0;
}

static void flush(struct log *log, size_t budget);
static void forget_queue(struct log *log);

void log_free(struct log *log)
{
	if (!log)
		return;
	flush(log, SIZE_MAX);
	forget_queue(log);
	loop_timer_cancel(log->loop, &log->stall);
	if (log->own_fd)
		close(log->source.fd);
	free(log);
}

/* ---- levels ---- */

void log_set_level(struct log *log, enum log_level level)
{
	log->level = level;
}

enum log_level log_level(const struct log *log)
{
	return log->level;
}

int log_level_parse(const char *name)
{
	for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++)
		if (!strcmp(name, level_names[level]))
			return level;
	return -1;
}

/* ---- writing ---- */

static ssize_t write_piece(const struct log *log, const char *text, size_t len)
{
	struct pollfd p = { .fd = log->source.fd, .events = POLLOUT };

	if (log->is_socket)
		return send(p.fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (log->direct || log->own_fd)
		return write(p.fd, text, len);
	if (poll(&p, 1, 0) == 0) {
		errno = EAGAIN;
		return -1;
	}
	return write(p.fd, text, len < PIPE_BUF ? len : PIPE_BUF);
}

/* Writes what goes without waiting. Returns how much that was; when nobody will ever read it, all of it. */
static size_t write_some(const struct log *log, const char *text, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write_piece(log, text + done, len - done);

		if (n > 0)
			done += (size_t)n;
		else if (n < 0 && errno == EAGAIN)
			return done;
		else if (n == 0 || errno != EINTR)
			return len;
	}
	return done;
}

/* ---- the queue ---- */

static uint64_t queued(const struct log *log)
{
	return log->taken - log->gone;
}

static void pop_block(struct log *log)
{
	struct block *b = log->first;

	log->first = b->next;
	log->sent = 0;
	free(b);
}

static void forget_queue(struct log *log)
{
	while (log->first)
		pop_block(log);
	log->gone = log->taken;
	loop_remove(log->loop, &log->source);
}

static struct block *block_with_room(struct log *log)
{
	struct block *b = log->first ? log->last : NULL;

	if (b && b->used < BLOCK_BYTES)
		return b;
	b = malloc(sizeof(*b));
	if (!b)
		return NULL;
	b->next = NULL;
	b->used = 0;
	if (log->first)
		log->last->next = b;
	else
		log->first = b;
	log->last = b;
	return b;
}

/* Returns how much of it found room. */
static size_t enqueue(struct log *log, const char *text, size_t len)
{
	size_t room = (size_t)(LOG_QUEUE_MAX - queued(log));
	size_t done = 0;

	if (len > room)
		len = room;
	if (len && !log->source.added && loop_add(log->loop, &log->source, EPOLLOUT) < 0)
		return 0;
	while (done < len) {
		struct block *b = block_with_room(log);
		size_t n = len - done;

		if (!b)
			break;
		if (n > BLOCK_BYTES - b->used)
			n = BLOCK_BYTES - b->used;
		memcpy(b->text + b->used, text + done, n);
		b->used += n;
		done += n;
		log->taken += n;
	}
	return done;
}

static uint64_t count_lines(const char *text, size_t len)
{
	uint64_t lines = 0;

	for (size_t i = 0; i < len; i++)
		lines += text[i] == '\n' || i == len - 1;
	return lines;
}

static void send_or_queue(struct log *log, const char *text, size_t len)
{
	size_t done = queued(log) ? 0 : write_some(log, text, len);

	done += enqueue(log, text + done, len - done);
	if (done)
		log->in_line = text[done - 1] != '\n';
	log->dropped += count_lines(text + done, len - done);
}

/* Something was dropped and there is room again: says how much. */
static void confess(struct log *log)
{
	char line[96];
	int len = snprintf(line, sizeof(line), "%s%s%llu lines of this log are missing: nobody read it in time\n",
			   log->in_line ? "\n" : "", log->journal ? journal_prefixes[LOG_LEVEL_WARNING] :
			   plain_prefixes[LOG_LEVEL_WARNING], (unsigned long long)log->dropped);

	log->dropped = 0;
	send_or_queue(log, line, (size_t)len);
}

static bool has_room(const struct log *log)
{
	return queued(log) <= LOG_QUEUE_MAX / 2;
}

void log_text(struct log *log, const char *text, size_t len)
{
	/* Once something was dropped, nothing goes before the line that says so, or it would stand in a wrong place. */
	if (log->dropped && has_room(log))
		confess(log);
	if (log->dropped)
		log->dropped += count_lines(text, len);
	else
		send_or_queue(log, text, len);
}

static void make_printable(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

void log_line(struct log *log, enum log_level level, const char *format, ...)
{
	const char *prefix = log->journal ? journal_prefixes[level] : plain_prefixes[level];
	char line[LINE_MAX_BYTES + 1];
	size_t len = strlen(prefix);
	va_list args;
	int n;

	if (level > log->level)
		return;
	memcpy(line, prefix, len);
	va_start(args, format);
	n = vsnprintf(line + len, sizeof(line) - 1 - len, format, args);
	va_end(args);
	if (n < 0)
		return;
	make_printable(line + len);
	len += strlen(line + len);
	line[len++] = '\n';
	log_text(log, line, len);
}

/* ---- flushing and waiting ---- */

static void wake_waits(struct log *log, uint64_t upto)
{
	size_t n = 0;

	/* Counted before: who waits again in his call is not meant. */
	for (const struct log_wait *w = log->waits; w && w->upto <= upto; w = w->next)
		n++;
	while (n-- && log->waits) {
		struct log_wait *w = log->waits;

		log_wait_cancel(log, w);
		w->done(w);
	}
}

static void flush(struct log *log, size_t budget)
{
	while (log->first && budget) {
		struct block *b = log->first;
		size_t len = b->used - log->sent;
		size_t done = write_some(log, b->text + log->sent, len < budget ? len : budget);

		if (!done)
			break;
		budget -= done;
		log->sent += done;
		log->gone += done;
		if (log->sent == b->used)
			pop_block(log);
	}
}

static void on_ready(struct loop_source *s, uint32_t events)
{
	struct log *log = loop_owner(s, struct log, source);
	uint64_t before = log->gone;

	flush(log, FLUSH_BYTES);
	if (log->dropped && has_room(log))
		confess(log);
	if (!queued(log))
		loop_remove(log->loop, &log->source);
	if (log->gone == before)
		return;
	if (log->waits)
		loop_timer_set(log->loop, &log->stall, STALL_MS);
	wake_waits(log, log->gone);
}

static void on_stall(struct loop_timer *t)
{
	struct log *log = loop_owner(t, struct log, stall);

	wake_waits(log, log->taken);
}

bool log_flushed(const struct log *log)
{
	return !queued(log);
}

void log_when_flushed(struct log *log, struct log_wait *w)
{
	if (log_flushed(log)) {
		w->done(w);
		return;
	}
	if (!log->waits)
		loop_timer_set(log->loop, &log->stall, STALL_MS);
	w->upto = log->taken;
	w->next = NULL;
	*log->waits_end = w;
	log->waits_end = &w->next;
}

void log_wait_cancel(struct log *log, struct log_wait *w)
{
	struct log_wait **at = &log->waits;

	if (!w->upto)
		return;
	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	if (!w->next)
		log->waits_end = at;
	w->upto = 0;
	if (!log->waits)
		loop_timer_cancel(log->loop, &log->stall);
}
