/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * private-server.c - see private-server.h.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/complain.h"
#include "client/private-server.h"
#include "client/ttalloc-proto.h"

#define PROGRAM "ttallocd"
#define READY_MS 30000
#define END_MS 30000
#define NAME "ttalloc-run."
#define RANDOM "XXXXXX"

static void forget(struct private_server *s)
{
	if (s->log >= 0)
		close(s->log);
	if (s->lock >= 0)
		close(s->lock);
	free(s->directory);
	free(s->mount);
	free(s->socket);
	*s = PRIVATE_SERVER_INIT;
}

/* --- where things are --- */

/* The server of the same build or installation, else the one of the path that was compiled in. Allocated. */
static char *find_program(void)
{
	static const char *const places[] = { "", "/../fs", "/../sbin" };
	char self[PATH_MAX], *path, *slash;
	const ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	size_t i;

	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	for (i = 0; slash && i < sizeof(places) / sizeof(places[0]); i++) {
		if (asprintf(&path, "%s%s/" PROGRAM, self, places[i]) < 0)
			return NULL;
		if (access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return strdup(TTALLOC_SBINDIR "/" PROGRAM);
}

static char *in_directory(const char *directory, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : path;
}

/* Where directories are made. */
static const char *temporary(void)
{
	const char *where = getenv("TMPDIR");

	/* The socket's path has to fit into its address. */
	if (!where || *where != '/' ||
	    strlen(where) + sizeof("/" NAME RANDOM "/socket") > sizeof(((struct sockaddr_un *)0)->sun_path))
		where = "/tmp";
	return where;
}

static int name_files(struct private_server *s)
{
	s->mount = in_directory(s->directory, "mnt");
	s->socket = in_directory(s->directory, "socket");
	return s->mount && s->socket ? 0 : -ENOMEM;
}

/* Whoever lives here holds the lock: of whom has lost it, nothing is needed any more. It has its name only when it is
 * held. Where there are no locks there is none, and nothing is taken away but by its owner. */
static void lock_directory(struct private_server *s)
{
	char *unlocked = in_directory(s->directory, "lock.new"), *name = in_directory(s->directory, "lock");

	s->lock = unlocked && name ? open(unlocked, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
	if (s->lock >= 0 && (flock(s->lock, LOCK_EX | LOCK_NB) < 0 || rename(unlocked, name) < 0))
		unlink(unlocked);
	free(unlocked);
	free(name);
}

static int make_directory(struct private_server *s)
{
	int r;

	s->directory = in_directory(temporary(), NAME RANDOM);
	if (!s->directory)
		return -ENOMEM;
	if (!mkdtemp(s->directory)) {
		r = -errno;
		free(s->directory);
		s->directory = NULL;
		return r;
	}
	lock_directory(s);
	return name_files(s);
}

/* Whether the compiled-in path is free: nobody listens there, and nothing is in the way that is not ours to remove. */
static bool compat_is_free(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct stat st;
	bool is_free;
	int fd;

	if (lstat(TTALLOC_COMPAT_SOCKET, &st) < 0)
		return errno == ENOENT;
	if (!S_ISSOCK(st.st_mode) || (st.st_uid != geteuid() && geteuid() != 0))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	strcpy(address.sun_path, TTALLOC_COMPAT_SOCKET);
	is_free = connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 && errno == ECONNREFUSED;
	close(fd);
	return is_free;
}

/* --- the guardian: it and the server are other processes --- */

/* Also when the server was killed, and its mount is dead. */
static void unmount(const char *path)
{
	pid_t pid;

	/* A server that ended well has taken away what it made. */
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return;
	if (umount2(path, MNT_DETACH) == 0 || errno != EPERM)
		return;
	pid = fork();
	if (pid == 0) {
		execlp("fusermount3", "fusermount3", "-u", "-z", "-q", path, (char *)NULL);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static _Noreturn void be_server(const struct private_server *s, const char *program, pid_t guardian)
{
	char *notify = in_directory(s->directory, "notify");
	const char *compat = s->compat ? TTALLOC_COMPAT_SOCKET : "none";

	/* A guardian that was killed has nobody to look after the server. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (!notify || getppid() != guardian || setenv("NOTIFY_SOCKET", notify, 1) < 0)
		_exit(127);
	dup2(s->log, STDERR_FILENO);
	execl(program, PROGRAM, "--foreground", "--mount", s->mount, "--socket", s->socket, "--compat-socket", compat,
	      "--log", "warning", (char *)NULL);
	dprintf(s->log, "cannot run %s: %s\n", program, strerror(errno));
	_exit(127);
}

/* Returns when the server has ended, which is asked of it when the leash is loose. */
static int watch_server(pid_t server, int leash)
{
	struct pollfd p[2] = { { .fd = leash, .events = POLLIN }, { .fd = pidfd_open(server, 0), .events = POLLIN } };
	int status = 0, ended;

	while (poll(p, 2, -1) < 0 && errno == EINTR)
		;
	if (!p[1].revents) {
		kill(server, SIGTERM);
		/* One that was stopped does not hear it. */
		kill(server, SIGCONT);
		while ((ended = poll(p + 1, 1, END_MS)) < 0 && errno == EINTR)
			;
		if (ended == 0)
			kill(server, SIGKILL);
	}
	while (waitpid(server, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void remove_file(const struct private_server *s, const char *name)
{
	char *path = in_directory(s->directory, name);

	if (path)
		unlink(path);
	free(path);
}

/* A server that was killed leaves its files behind. */
static void clean_up(const struct private_server *s, bool killed)
{
	unmount(s->mount);
	if (killed && s->compat && compat_is_free())
		unlink(TTALLOC_COMPAT_SOCKET);
	remove_file(s, "notify");
	unlink(s->socket);
	rmdir(s->mount);
	remove_file(s, "lock");
	rmdir(s->directory);
}

/* Takes away a directory of ours whose lock is nobody's. */
static void clean_directory(const char *where, int in, const char *name)
{
	const int fd = openat(in, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct private_server s = PRIVATE_SERVER_INIT;
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == geteuid() && !(st.st_mode & 077))
		s.lock = openat(fd, "lock", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	if (s.lock >= 0 && flock(s.lock, LOCK_EX | LOCK_NB) == 0) {
		s.directory = in_directory(where, name);
		if (s.directory && name_files(&s) == 0)
			clean_up(&s, false);
	}
	forget(&s);
}

static void clean_stale(void)
{
	const char *where = temporary();
	struct dirent *entry;
	DIR *dir = opendir(where);

	while (dir && (entry = readdir(dir)))
		if (strncmp(entry->d_name, NAME, strlen(NAME)) == 0)
			clean_directory(where, dirfd(dir), entry->d_name);
	if (dir)
		closedir(dir);
}

static _Noreturn void be_guardian(const struct private_server *s, const char *program, int leash)
{
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const pid_t self = getpid();
	sigset_t none;
	pid_t server;
	int status;

	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	server = fork();
	if (server == 0)
		be_server(s, program, self);
	status = server > 0 ? watch_server(server, leash) : 127;
	clean_up(s, status > 128);
	_exit(status);
}

/* --- starting --- */

static int open_notify(const struct private_server *s)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char *path = in_directory(s->directory, "notify");
	int fd = path ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1, r = 0;

	if (fd < 0) {
		free(path);
		return path ? -errno : -ENOMEM;
	}
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		r = -errno;
		close(fd);
	}
	free(path);
	return r < 0 ? r : fd;
}

/* Until the server says READY=1, or has ended. */
static int wait_until_ready(const struct private_server *s, int notify)
{
	struct pollfd p[2] = { { .fd = notify, .events = POLLIN }, { .fd = pidfd_open(s->guardian, 0), .events = POLLIN } };
	char message[256];
	ssize_t n;
	int r = -EAGAIN;

	while (r == -EAGAIN) {
		n = poll(p, 2, READY_MS);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || !p[0].revents) {
			r = n == 0 ? -ETIMEDOUT : -ECHILD;
			break;
		}
		n = recv(notify, message, sizeof(message) - 1, 0);
		message[n > 0 ? n : 0] = '\0';
		if (strstr(message, "READY=1"))
			r = 0;
	}
	if (p[1].fd >= 0)
		close(p[1].fd);
	return r;
}

static int start_guardian(struct private_server *s, const char *program)
{
	int pair[2];

	if (pipe2(pair, O_CLOEXEC) < 0)
		return -errno;
	s->guardian = fork();
	if (s->guardian == 0) {
		close(pair[1]);
		be_guardian(s, program, pair[0]);
	}
	close(pair[0]);
	if (s->guardian < 0) {
		s->guardian = 0;
		close(pair[1]);
		return -errno;
	}
	s->leash = pair[1];
	return 0;
}

static int try_start(struct private_server *s, const char *program)
{
	int notify, r = make_directory(s);

	s->log = r == 0 ? memfd_create("ttallocd.log", MFD_CLOEXEC) : -1;
	notify = s->log >= 0 ? open_notify(s) : -errno;
	if (r == 0 && notify >= 0)
		r = start_guardian(s, program);
	else if (r == 0)
		r = notify;
	if (r == 0)
		r = wait_until_ready(s, notify);
	if (notify >= 0)
		close(notify);
	return r;
}

/* --- ending --- */

static void copy_log(const struct private_server *s)
{
	char text[4096];
	ssize_t n;

	if (s->log < 0 || lseek(s->log, 0, SEEK_SET) < 0)
		return;
	while ((n = read(s->log, text, sizeof(text))) > 0)
		fwrite(text, 1, (size_t)n, stderr);
}

/* The guardian's end is the end of all that there was, unless it was killed. Its status is the server's. */
static void end_guardian(struct private_server *s)
{
	bool killed;

	if (s->leash >= 0)
		close(s->leash);
	s->leash = -1;
	if (s->guardian > 0) {
		while (waitpid(s->guardian, &s->status, 0) < 0 && errno == EINTR)
			;
		s->guardian = 0;
		s->ended = true;
	}
	/* There may have been none yet. */
	killed = s->ended && WIFSIGNALED(s->status);
	if (s->directory && (!s->ended || killed))
		clean_up(s, killed);
}

void private_server_ended(struct private_server *s, int status)
{
	s->guardian = 0;
	s->ended = true;
	s->status = status;
}

int private_server_end(struct private_server *s, const char *who)
{
	/* It ends when it is asked to, not before. */
	bool failed = s->ended;

	end_guardian(s);
	failed |= s->status != 0;
	if (failed) {
		fprintf(stderr, "%s: the private server has failed:\n", who);
		copy_log(s);
	}
	forget(s);
	return failed ? -EIO : 0;
}

static void tell_why(const struct private_server *s, const char *who, int error)
{
	fprintf(stderr, "%s: ", who);
	if (error == -ECHILD) {
		fputs("no private server: ", stderr);
		copy_log(s);
	} else {
		complain_of("no private server", s->directory ? s->directory : temporary(), strerror(-error));
	}
}

int private_server_start(struct private_server *s, const char *who)
{
	char *program = find_program();
	int r = -ENOMEM, tries;

	*s = PRIVATE_SERVER_INIT;
	clean_stale();
	/* Somebody may take the compiled-in path in between: then without. */
	s->compat = compat_is_free();
	for (tries = 1 + s->compat; program && tries > 0; tries--) {
		r = try_start(s, program);
		if (r == 0)
			break;
		end_guardian(s);
		if (tries == 1)
			tell_why(s, who, r);
		forget(s);
	}
	free(program);
	return r;
}
