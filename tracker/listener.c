/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * listener.c - a listening Unix socket; the contract is in listener.h.
 *
 * Taking a path is looking who is there and then putting oneself in its place; two servers that start together must not
 * do that at the same time, or the second one would take the path from the first. So the directory is locked
 * meanwhile: that needs no file of its own, and the lock goes with whoever dies. At the end the file is unlinked
 * while the socket is still listening, so that nobody can have replaced it.
 */
#include "tracker/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOCK_TRIES 100
#define LOCK_WAIT_MS 10
#define PAUSE_MS 100
#define ACCEPT_NS UINT64_C(150000)  /* no further client is let in after this time in a turn: each takes over 100 us */
#define MADE_BELOW "/run/"

/* ---- directories ---- */

/* Makes the directories of the path that are missing below /run. */
static int make_parents(struct listener *l, struct textbuf *why)
{
	char *path = l->address.sun_path;
	int r = 0;

	if (strncmp(path, MADE_BELOW, strlen(MADE_BELOW)) != 0)
		return 0;
	for (char *slash = strchr(path + strlen(MADE_BELOW), '/'); slash && r == 0; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(path, 0755) == 0) {
			(void)chmod(path, 0755);  /* whatever the umask was */
			if (!l->made_from)
				l->made_from = (size_t)(slash - path);
		} else if (errno != EEXIST) {
			r = -errno;
			textbuf_printf(why, "cannot make the directory %s: %s", path, strerror(-r));
		}
		*slash = '/';
	}
	return r;
}

static void remove_parents(struct listener *l)
{
	char *path = l->address.sun_path;

	for (char *slash = strrchr(path, '/'); l->made_from && slash && (size_t)(slash - path) >= l->made_from;
	     slash = strrchr(path, '/')) {
		*slash = '\0';
		if (rmdir(path) < 0)
			return;
	}
}

/* A descriptor that holds the lock on the path's directory, or -errno. */
static int lock_directory(const char *path, struct textbuf *why)
{
	char directory[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	const char *slash = strrchr(path, '/');
	int fd;

	if (slash == path)
		slash++;
	strcpy(directory, ".");
	if (slash) {
		memcpy(directory, path, (size_t)(slash - path));
		directory[slash - path] = '\0';
	}
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		fd = -errno;
		textbuf_printf(why, "cannot open the directory %s: %s", directory, strerror(-fd));
		return fd;
	}
	for (int tries = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; tries++) {
		if (errno != EWOULDBLOCK)
			return fd;  /* a file system without locks: then without */
		if (tries == LOCK_TRIES) {
			textbuf_printf(why, "the directory %s is locked by another process", directory);
			close(fd);
			return -EBUSY;
		}
		(void)poll(NULL, 0, LOCK_WAIT_MS);
	}
	return fd;
}

/* ---- taking the path ---- */

static int new_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

static int connect_to(int fd, const struct sockaddr_un *address)
{
	return connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
}

static int refuse_living(const struct listener *l, int fd, struct textbuf *why)
{
	struct ucred cred = { 0 };
	socklen_t len = sizeof(cred);

	(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	textbuf_printf(why, "%s: a server is listening there already", l->address.sun_path);
	if (cred.pid > 0)
		textbuf_printf(why, ", pid %d", cred.pid);
	return -EADDRINUSE;
}

static int refuse_other(const char *path, const char *what, struct textbuf *why)
{
	textbuf_printf(why, "%s %s", path, what);
	return -EEXIST;
}

static int remove_stale(const char *path, struct textbuf *why)
{
	int r = unlink(path) < 0 ? -errno : 0;

	if (r < 0)
		textbuf_printf(why, "%s: cannot remove what a server that is gone has left: %s", path, strerror(-r));
	return r;
}

/* 0: nobody is there, and the file that a dead server has left, if any, is gone. */
static int clear_path(const struct listener *l, struct textbuf *why)
{
	const char *path = l->address.sun_path;
	struct stat st;
	int fd, r;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return refuse_other(path, "exists and is not a socket", why);
	fd = new_socket();
	if (fd < 0)
		return fd;
	r = connect_to(fd, &l->address);
	if (r == 0 || r == -EAGAIN)  /* EAGAIN: so alive that its queue is full */
		r = refuse_living(l, fd, why);
	else if (r == -EPROTOTYPE)
		r = refuse_other(path, "is a living socket of another kind", why);
	else if (r == -ECONNREFUSED)
		r = remove_stale(path, why);
	close(fd);
	return r;
}

static int bind_and_listen(struct listener *l)
{
	mode_t mask = umask(0111);  /* the file's mode is 0666 from its first moment on */
	int r = bind(l->source.fd, (const struct sockaddr *)&l->address, sizeof(l->address)) < 0 ? -errno : 0;

	umask(mask);
	if (r < 0)
		return r;
	if (lstat(l->address.sun_path, &l->file) < 0)
		return -errno;
	l->bound = true;
	return listen(l->source.fd, LISTENER_BACKLOG) < 0 ? -errno : 0;
}

static int take_path(struct listener *l, struct textbuf *why)
{
	int r, lock = lock_directory(l->address.sun_path, why);

	if (lock < 0)
		return lock;
	r = clear_path(l, why);
	if (r == 0)
		r = bind_and_listen(l);
	close(lock);
	return r;
}

/* ---- accepting ---- */

static void refuse(const struct listener *l, int fd, const char *reason)
{
	struct ucred cred = { 0 };
	socklen_t len = sizeof(cred);

	(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	close(fd);
	l->peers->info->refused_clients++;
	errlog_add(l->peers->ingest->errlog, loop_now(), "client refused: pid %d: %s", cred.pid, reason);
}

static void admit(const struct listener *l, int fd)
{
	int r;

	if (l->peers->info->clients >= l->peers->info->max_clients) {
		refuse(l, fd, "max_clients is reached");
		return;
	}
	r = peer_new(l->peers, fd);
	if (r == -ENOSPC)
		refuse(l, fd, "there is no room for another process");
	else if (r < 0)
		refuse(l, fd, strerror(-r));
}

static void pause_accepting(struct listener *l)
{
	(void)loop_change(l->peers->loop, &l->source, 0);
	loop_timer_set(l->peers->loop, &l->pause, PAUSE_MS);
}

static void resume_accepting(struct loop_timer *t)
{
	struct listener *l = loop_owner(t, struct listener, pause);

	(void)loop_change(l->peers->loop, &l->source, EPOLLIN);
}

static int accept_one(const struct listener *l)
{
	int fd = accept4(l->source.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* No descriptor is free: the reserve is given up for the moment it takes to turn one client away. Without that the
 * client would wait for ever, and the loop would be told of it without end. 0 or -errno, as for accept_one(). */
static int turn_away_one(const struct listener *l)
{
	int fd;

	if (*l->reserve < 0)
		return -EMFILE;
	close(*l->reserve);
	fd = accept_one(l);
	if (fd >= 0)
		refuse(l, fd, strerror(EMFILE));
	*l->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return fd < 0 ? fd : 0;
}

/* 0 or -errno; -EAGAIN when nobody else waits. */
static int serve_one(const struct listener *l)
{
	int fd = accept_one(l);

	if (fd == -EMFILE || fd == -ENFILE)
		return turn_away_one(l);
	if (fd == -EINTR || fd == -ECONNABORTED)
		return 0;
	if (fd >= 0)
		admit(l, fd);
	return fd < 0 ? fd : 0;
}

static void on_connection(struct loop_source *s, uint32_t events)
{
	struct listener *l = loop_owner(s, struct listener, source);
	uint64_t until = loop_monotonic() + ACCEPT_NS;
	int r = 0;

	for (int i = 0; i < LISTENER_BACKLOG && r == 0; i++) {
		if (i && !loop_draining(l->peers->loop) && loop_monotonic() >= until) {
			loop_left(l->peers->loop, s);
			return;
		}
		r = serve_one(l);
	}
	if (r < 0 && r != -EAGAIN)
		pause_accepting(l);
}

/* ---- life ---- */

static int listener_open(struct listener *l, const char *path, struct textbuf *why)
{
	int r;

	if (strlen(path) >= sizeof(l->address.sun_path)) {
		textbuf_printf(why, "%s: longer than the %zu bytes that the path of a socket may have", path,
			       sizeof(l->address.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	strcpy(l->address.sun_path, path);
	r = new_socket();
	if (r < 0)
		return r;
	l->source.fd = r;
	r = make_parents(l, why);
	if (r == 0)
		r = take_path(l, why);
	return r < 0 ? r : loop_add(l->peers->loop, &l->source, EPOLLIN);
}

int listener_init(struct listener *l, struct peer_set *peers, int *reserve, const char *path, struct textbuf *why)
{
	size_t said = why->len;
	int r;

	*l = (struct listener){
		.source = { .fd = -1, .ingest = true, .ready = on_connection },
		.pause = { .expired = resume_accepting },
		.peers = peers,
		.reserve = reserve,
		.address = { .sun_family = AF_UNIX },
	};
	r = listener_open(l, path, why);
	if (r < 0 && why->len == said)
		textbuf_printf(why, "%s: %s", path, strerror(-r));
	return r;
}

void listener_deinit(struct listener *l)
{
	struct stat st;

	loop_timer_cancel(l->peers->loop, &l->pause);
	loop_remove(l->peers->loop, &l->source);
	if (l->bound && lstat(l->address.sun_path, &st) == 0 && st.st_dev == l->file.st_dev &&
	    st.st_ino == l->file.st_ino)
		(void)unlink(l->address.sun_path);
	if (l->source.fd >= 0)
		close(l->source.fd);
	l->source.fd = -1;
	l->bound = false;
	remove_parents(l);
}
