/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * analyze-log.c - see analyze-log.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/analyze-log.h"

#define ROOM (LOG_CHUNK + LOG_LINE_MAX)
#define MAGIC_MAX 6

/* Reads more behind what is there, which is moved to the front. Return: 1; 0: there is no more; -errno. */
static int fill(struct log *l)
{
	ssize_t n;

	memmove(l->text, l->text + l->at, l->have - l->at);
	l->have -= l->at;
	l->at = 0;
	do
		n = read(l->fd, l->text + l->have, ROOM - l->have);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	l->have += (size_t)n;
	return n > 0;
}

static const char *packed_with(const char *text, size_t length)
{
	static const struct packer {
		const char *name;
		const char *magic;
	} packers[] = {
		{ "gzip", "\x1f\x8b" }, { "xz", "\xfd" "7zXZ" }, { "zstd", "\x28\xb5\x2f\xfd" }, { "bzip2", "BZh" },
	};
	size_t i, n;

	for (i = 0; i < sizeof(packers) / sizeof(packers[0]); i++) {
		n = strlen(packers[i].magic);
		if (length >= n && memcmp(text, packers[i].magic, n) == 0)
			return packers[i].name;
	}
	return NULL;
}

int log_open(struct log *l, const char *name, uint32_t number)
{
	int r;

	*l = (struct log){ .name = name, .place.log = number, .time = LINE_NO_TIME };
	l->fd = strcmp(name, "-") == 0 ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (l->fd < 0)
		return -errno;
	l->text = malloc(ROOM);
	if (!l->text)
		return -ENOMEM;
	do
		r = fill(l);
	while (r > 0 && l->have < MAGIC_MAX);
	if (r < 0)
		return r;
	l->packed = packed_with(l->text, l->have);
	return 0;
}

void log_close(struct log *l)
{
	if (l->fd > STDIN_FILENO)
		close(l->fd);
	l->fd = -1;
	free(l->text);
	l->text = NULL;
}

/*
 * Finds the end of the line that begins at `at`: *lengthp without its end, too much for a line if it is too long.
 * Return: 1; 0: the log ends there; -errno.
 */
static int find_end(struct log *l, size_t *lengthp)
{
	const char *end;
	bool too_long = false;
	size_t looked = 0;
	int r;

	while (!(end = memchr(l->text + l->at + looked, '\n', l->have - l->at - looked))) {
		looked = l->have - l->at;
		if (looked > LOG_LINE_MAX) {
			too_long = true;
			l->at = l->have;
			looked = 0;
		}
		r = fill(l);
		if (r <= 0) {
			*lengthp = too_long ? LOG_LINE_MAX + 1 : looked;
			return r;
		}
	}
	*lengthp = too_long ? LOG_LINE_MAX + 1 : (size_t)(end - (l->text + l->at));
	l->at = (size_t)(end + 1 - l->text);
	return 1;
}

/* Whether a line that the log ends in may be believed: a number at its end may have lost digits. */
static bool is_whole(const char *text, size_t length, const struct line *line)
{
	return line->source == LINE_DETAIL || (length > 0 && text[length - 1] == ')');
}

int log_next(struct log *l)
{
	static const struct line unknown = { .device = LINE_NO_DEVICE, .time = LINE_NO_TIME, .type = LINE_NO_TYPE };
	const char *text;
	size_t length;
	const int r = find_end(l, &length);

	if (r < 0 || (r == 0 && length == 0))
		return r;
	l->line = unknown;
	if (length <= LOG_LINE_MAX) {
		text = l->text + (r > 0 ? l->at - 1 : l->have) - length;
		line_parse(text, length, &l->line);
		if (r == 0 && l->line.kind != LINE_BLANK && !is_whole(text, length, &l->line))
			l->line = unknown;
	}
	if (r == 0)
		l->at = l->have;
	l->place.line++;
	if (l->line.time > l->time)
		l->time = l->line.time;
	if (l->line.kind == LINE_UNKNOWN)
		l->unknown++;
	else if (l->line.kind != LINE_BLANK)
		l->understood++;
	return 1;
}
