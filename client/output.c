/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * output.c - see output.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/output.h"

/* What a path leads to. */
struct target {
	char *path;                /* without symbolic links at its end */
	bool exists;
	bool is_special;           /* is there, and no regular file, or an open one of ours */
	struct stat st;
};

/* What the shell has opened as standard output is not ours to replace: others write into it, too. */
static bool is_open_file(const char *path)
{
	return strncmp(path, "/dev/std", 8) == 0 || strncmp(path, "/dev/fd/", 8) == 0 ||
	       strncmp(path, "/proc/", 6) == 0;
}

/* Where a link leads, in which nothing is yet; the path itself if it is none. Allocated, or NULL with errno. */
static char *follow(const char *path)
{
	char *at = strdup(path), *next, *slash, to[PATH_MAX];
	ssize_t n;

	/* stat() has found no loop. */
	while (at && (n = readlink(at, to, sizeof(to) - 1)) >= 0) {
		to[n] = '\0';
		slash = *to == '/' ? NULL : strrchr(at, '/');
		if (asprintf(&next, "%.*s%s", slash ? (int)(slash - at) + 1 : 0, at, to) < 0)
			next = NULL;
		free(at);
		at = next;
	}
	return at;
}

static int target_find(struct target *t, const char *path)
{
	*t = (struct target){ 0 };
	if (!*path)
		return -ENOENT;
	t->exists = stat(path, &t->st) == 0;
	if (!t->exists && errno != ENOENT)
		return -errno;
	if (t->exists && S_ISDIR(t->st.st_mode))
		return -EISDIR;
	t->is_special = t->exists && (!S_ISREG(t->st.st_mode) || is_open_file(path));
	/* /dev/fd/N of a pipe has no path that leads back to it. */
	t->path = !t->exists ? follow(path) : t->is_special ? strdup(path) : realpath(path, NULL);
	return t->path ? 0 : -errno;
}

/* A file beside it, with the rights that it has or would have. Returns its descriptor or -errno. */
static int open_beside(const struct target *t, char **namep)
{
	const mode_t mask = umask(0);
	const mode_t mode = t->exists ? t->st.st_mode & 07777 : 0666 & ~mask;
	int fd, r = 0;

	umask(mask);
	*namep = NULL;
	if (asprintf(namep, "%s.XXXXXX", t->path) < 0)
		return -ENOMEM;
	fd = mkostemp(*namep, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (t->exists && fchown(fd, t->st.st_uid, t->st.st_gid) < 0)
		r = -errno;
	if (r == 0 && fchmod(fd, mode) < 0)
		r = -errno;
	if (r == 0)
		return fd;
	close(fd);
	unlink(*namep);
	return r;
}

/* Whether an error means that there can be nothing beside it, which may itself be written all the same. */
static bool is_in_place(const struct target *t, int error)
{
	return t->exists && (error == -EACCES || error == -EPERM || error == -EROFS || error == -EBUSY ||
			     error == -EXDEV);
}

int output_check(const char *path)
{
	struct target t;
	char *name = NULL;
	int fd, r = target_find(&t, path);

	if (r == 0 && t.exists && access(path, W_OK) < 0)
		r = -errno;
	if (r == 0 && t.exists && S_ISSOCK(t.st.st_mode))
		r = -ENXIO;
	if (r == 0 && !t.is_special) {
		fd = open_beside(&t, &name);
		if (fd >= 0) {
			close(fd);
			unlink(name);
		} else if (!is_in_place(&t, fd)) {
			r = fd;
		}
	}
	free(name);
	free(t.path);
	return r;
}

/* Closes it. 0 or -errno. */
static int write_all(int fd, const char *text, size_t length)
{
	ssize_t n = 0;
	int r = 0;

	for (; length > 0 && r == 0; text += n, length -= (size_t)n) {
		n = write(fd, text, length);
		if (n < 0 && errno != EINTR)
			r = -errno;
		n = n < 0 ? 0 : n;
	}
	return close(fd) < 0 && r == 0 ? -errno : r;
}

static int write_in_place(const struct target *t, const char *text, size_t length)
{
	const int fd = open(t->path, O_WRONLY | O_CLOEXEC | O_NOCTTY | (t->is_special ? O_APPEND : O_TRUNC));

	return fd < 0 ? -errno : write_all(fd, text, length);
}

static int replace(const struct target *t, const char *text, size_t length)
{
	char *name;
	int r, fd = open_beside(t, &name);

	r = fd < 0 ? fd : write_all(fd, text, length);
	if (r == 0 && rename(name, t->path) < 0)
		r = -errno;
	if (r < 0 && fd >= 0)
		unlink(name);
	free(name);
	return r;
}

int output_write(const char *path, const char *text, size_t length)
{
	struct target t;
	int r = target_find(&t, path);

	if (r == 0 && t.is_special) {
		r = write_in_place(&t, text, length);
	} else if (r == 0) {
		r = replace(&t, text, length);
		if (is_in_place(&t, r))
			r = write_in_place(&t, text, length);
	}
	free(t.path);
	return r;
}

/* The directory that a path is in, and its name there. */
static bool take_apart(const char *path, char directory[PATH_MAX], const char **namep)
{
	const char *slash = strrchr(path, '/');
	char *copy = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup("."), *found;

	*namep = slash ? slash + 1 : path;
	found = copy ? realpath(copy, directory) : NULL;
	free(copy);
	return found != NULL;
}

bool output_is_same(const char *a, const char *b)
{
	char directory[2][PATH_MAX];
	const char *name[2];
	struct stat st[2];
	const bool there[2] = { stat(a, &st[0]) == 0, stat(b, &st[1]) == 0 };

	if (there[0] != there[1])
		return false;
	if (there[0])
		return S_ISREG(st[0].st_mode) && st[0].st_dev == st[1].st_dev && st[0].st_ino == st[1].st_ino;
	return take_apart(a, directory[0], &name[0]) && take_apart(b, directory[1], &name[1]) &&
	       strcmp(directory[0], directory[1]) == 0 && strcmp(name[0], name[1]) == 0;
}
