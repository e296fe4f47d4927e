/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * mountpoint.c - the directory to mount on; the contract is in mountpoint.h.
 */
#include "fs/mountpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ASK_MS 2000
#define HEAL_TRIES 32        /* dead mounts can lie on top of each other */
#define VERSION_MAX 256
#define REAP_TRIES 100       /* of a millisecond each */
#define DIRECTORY_MODE 0755

struct mount_entry {
	char device[32];
	char type[64];
	unsigned uid, gid;  /* of who mounted it */
};

/* ---- what is mounted ---- */

/* mountinfo writes blank, tab, newline and backslash as \ooo. */
static void unescape(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' &&
		    s[3] <= '7') {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
}

static unsigned number_behind(const char *options, const char *name)
{
	const char *at = strstr(options, name);

	return at ? (unsigned)strtoul(at + strlen(name), NULL, 10) : 0;
}

/* `36 35 98:0 /root /mountpoint options [tags...] - type source options` */
static bool parse_mount(char *line, const char *path, struct mount_entry *e)
{
	char *field[5], *rest = line, *tail;

	for (size_t i = 0; i < 5; i++)
		if (!(field[i] = strsep(&rest, " ")))
			return false;
	unescape(field[4]);
	if (strcmp(field[4], path) != 0 || !rest || !(tail = strstr(rest, " - ")))
		return false;
	tail += strlen(" - ");
	snprintf(e->device, sizeof(e->device), "%s", field[2]);
	snprintf(e->type, sizeof(e->type), "%.*s", (int)strcspn(tail, " \n"), tail);
	e->uid = number_behind(tail, "user_id=");
	e->gid = number_behind(tail, "group_id=");
	return true;
}

/* What is on top: the last one that is listed. */
static bool find_mount(const char *path, struct mount_entry *e)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t size = 0;
	bool found = false;

	if (!f)
		return false;
	while (getline(&line, &size, f) > 0)
		found |= parse_mount(line, path, e);
	free(line);
	fclose(f);
	return found;
}

bool mountpoint_device(const char *path, char *device, size_t size)
{
	struct mount_entry e;

	if (!find_mount(path, &e))
		return false;
	snprintf(device, size, "%s", e.device);
	return true;
}

/* ---- asking a mount ---- */

struct answer {
	int error;
	size_t len;
	char text[VERSION_MAX];
};

static void look(const char *path, struct answer *a)
{
	char file[PATH_MAX];
	struct statx stx;
	ssize_t n = -1;
	int fd;

	/* Without the flag the kernel answers from memory for a server that is dead. */
	if (statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &stx) < 0) {
		a->error = errno;
		return;
	}
	snprintf(file, sizeof(file), "%s/version", path);
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		n = read(fd, a->text, sizeof(a->text));
	a->error = n < 0 ? errno : 0;
	a->len = n < 0 ? 0 : (size_t)n;
}

/* Other users' mounts do not even tell root that they are dead. */
static void become_owner(const char *path)
{
	struct mount_entry e;

	if (geteuid() != 0 || !find_mount(path, &e) || !e.uid)
		return;
	if (setresgid(e.gid, e.gid, e.gid) < 0 || setresuid(e.uid, e.uid, e.uid) < 0)
		_exit(1);
}

/* A child that waits for a server that hangs cannot even be killed; it ends when that server does. */
static void end_child(pid_t child)
{
	const struct timespec ms = { .tv_nsec = 1000000 };

	kill(child, SIGKILL);
	for (unsigned i = 0; i < REAP_TRIES && waitpid(child, NULL, WNOHANG) == 0; i++)
		nanosleep(&ms, NULL);
}

static int wait_answer(int fd, unsigned ms, struct answer *a)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int r = poll(&p, 1, (int)ms);

	if (r < 0)
		return -errno;
	if (r == 0)
		return -ETIMEDOUT;
	return read(fd, a, sizeof(*a)) == (ssize_t)sizeof(*a) ? -a->error : -EIO;
}

int mountpoint_ask(const char *path, unsigned ms, struct textbuf *version)
{
	struct answer a = { 0 };
	int fd[2], r;
	pid_t child;

	if (pipe2(fd, O_CLOEXEC) < 0)
		return -errno;
	child = fork();
	if (child < 0) {
		r = -errno;
		close(fd[0]);
		close(fd[1]);
		return r;
	}
	if (child == 0) {
		become_owner(path);
		look(path, &a);
		_exit(write(fd[1], &a, sizeof(a)) == (ssize_t)sizeof(a) ? 0 : 1);
	}
	close(fd[1]);
	r = wait_answer(fd[0], ms, &a);
	close(fd[0]);
	end_child(child);
	if (r == 0)
		textbuf_put(version, a.text, a.len);
	return r;
}

/* ---- healing ---- */

/* Who is no superuser has the helper of fuse3 do it. */
static int detach_by_helper(const char *path)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		return -errno;
	if (child == 0) {
		int null = open("/dev/null", O_RDWR);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		execlp("fusermount3", "fusermount3", "-u", "-z", "--", path, (char *)NULL);
		_exit(127);
	}
	if (waitpid(child, &status, 0) < 0)
		return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

int mountpoint_detach(const char *path)
{
	int r = umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;

	return r == -EPERM ? detach_by_helper(path) : r;
}

static int detach(const char *path, struct textbuf *why)
{
	int r = mountpoint_detach(path);

	if (r < 0)
		textbuf_printf(why, "%s: a dead mount is there and cannot be detached: %s", path, strerror(-r));
	return r;
}

/* What the mount that is served there says about itself: "ttalloc 0.1.0 abi 1 pid 4711 ...". */
static int refuse_living(const char *path, const struct textbuf *version, struct textbuf *why)
{
	const char *pid = memmem(version->data, version->len, " pid ", strlen(" pid "));
	int number = 0;

	if (pid)
		for (pid += strlen(" pid "); pid < version->data + version->len && *pid >= '0' && *pid <= '9'; pid++)
			number = number * 10 + (*pid - '0');
	textbuf_printf(why, "%s: another ttallocd is mounted there (pid %d)", path, number);
	return -EBUSY;
}

/* One look at what is mounted: 1 = something was detached, look again; 0 = nothing of ours is there. */
static int heal_one(const char *path, struct textbuf *why)
{
	struct textbuf version = TEXTBUF_INIT;
	struct mount_entry e;
	int r;

	if (!find_mount(path, &e) || strcmp(e.type, MOUNT_TYPE) != 0)
		return 0;
	r = mountpoint_ask(path, ASK_MS, &version);
	if (r == -ENOTCONN) {
		r = detach(path, why);
		r = r < 0 ? r : 1;
	} else if (r == 0) {
		r = refuse_living(path, &version, why);
	} else if (r == -ETIMEDOUT) {
		textbuf_printf(why, "%s: another ttallocd is mounted there and does not answer", path);
		r = -EBUSY;
	} else {
		textbuf_printf(why, "%s: another ttallocd is mounted there, perhaps another user's: %s", path,
			       strerror(-r));
	}
	textbuf_deinit(&version);
	return r;
}

static int heal(const char *path, struct textbuf *why)
{
	for (unsigned i = 0; i < HEAL_TRIES; i++) {
		int r = heal_one(path, why);
		if (r <= 0)
			return r;
	}
	textbuf_printf(why, "%s: too many dead mounts there", path);
	return -EBUSY;
}

/* ---- making it ready ---- */

static int fail(const char *path, int error, struct textbuf *why)
{
	textbuf_printf(why, "%s: %s", path, strerror(error));
	return -error;
}

static int make_directory(struct mountpoint *m, const char *path, struct textbuf *why)
{
	if (mkdir(path, DIRECTORY_MODE) < 0)
		return fail(path, errno, why);
	m->made = true;
	m->path = realpath(path, NULL);
	return m->path ? 0 : fail(path, errno, why);
}

static int check_empty(const char *path, struct textbuf *why)
{
	DIR *dir = opendir(path);
	const struct dirent *e;

	if (!dir)
		return fail(path, errno, why);
	do
		e = readdir(dir);
	while (e && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0));
	closedir(dir);
	return e ? fail(path, ENOTEMPTY, why) : 0;
}

int mountpoint_prepare(struct mountpoint *m, const char *path, struct textbuf *why)
{
	int r;

	m->made = false;
	m->path = realpath(path, NULL);
	if (!m->path)
		return errno == ENOENT ? make_directory(m, path, why) : fail(path, errno, why);
	r = heal(m->path, why);
	if (r == 0)
		r = check_empty(m->path, why);
	return r;
}

void mountpoint_release(struct mountpoint *m)
{
	if (m->made)
		rmdir(m->path);
	free(m->path);
	*m = (struct mountpoint){ 0 };
}
