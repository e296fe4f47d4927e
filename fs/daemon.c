/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * daemon.c - going into the background; the contract is in daemon.h.
 *
 * What goes over the pipe is one message: 'R' and the path of the mount, or 'E' and the reason.
 */
#include "fs/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/mountpoint.h"

#define READY 'R'
#define FAILED 'E'
#define ANSWER_MS 10000

/* Reads to the end: the server has closed its side, or is no more. */
static size_t read_message(int fd, char *message, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while (len < size - 1) {
		n = read(fd, message + len, size - 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	message[len] = '\0';
	return len;
}

static _Noreturn void wait_for_server(pid_t server, int fd)
{
	struct textbuf version = TEXTBUF_INIT;
	char message[PATH_MAX + 256];
	size_t len = read_message(fd, message, sizeof(message));
	int r = len && message[0] == READY ? mountpoint_ask(message + 1, ANSWER_MS, &version) : -EIO;

	textbuf_deinit(&version);
	if (!len || message[0] == FAILED)
		waitpid(server, NULL, 0);  /* nothing is left of it when we say so */
	if (!len)
		fprintf(stderr, "ttallocd: the server ended before it was ready\n");
	else if (message[0] == FAILED)
		fprintf(stderr, "ttallocd: %s\n", message + 1);
	else if (r < 0)
		fprintf(stderr, "ttallocd: %s: the mount does not answer: %s\n", message + 1, strerror(-r));
	_exit(r < 0 ? DAEMON_FAILED : EXIT_SUCCESS);
}

static int leave_terminal(void)
{
	struct stat st;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return -errno;
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	if (fstat(STDERR_FILENO, &st) < 0 || !S_ISREG(st.st_mode))
		dup2(null, STDERR_FILENO);
	if (null > STDERR_FILENO)
		close(null);
	setsid();
	return 0;
}

int daemon_start(int *fd)
{
	int pair[2];
	pid_t child;

	close_range(STDERR_FILENO + 1, UINT_MAX, 0);
	if (pipe2(pair, O_CLOEXEC) < 0)
		return -errno;
	child = fork();
	if (child < 0)
		return -errno;
	if (child > 0) {
		close(pair[1]);
		wait_for_server(child, pair[0]);
	}
	close(pair[0]);
	*fd = pair[1];
	return leave_terminal();
}

static void send_message(int *fd, char kind, const char *text, size_t len)
{
	struct textbuf message = TEXTBUF_INIT;

	textbuf_putc(&message, kind);
	textbuf_put(&message, text, len);
	/* Short enough for a pipe to take at once; a parent that has gone does not matter. */
	if (write(*fd, message.data, message.len) < 0)
		message.len = 0;
	textbuf_deinit(&message);
	close(*fd);
	*fd = -1;
}

void daemon_ready(int *fd, const char *mount)
{
	send_message(fd, READY, mount, strlen(mount));
}

void daemon_failed(int *fd, const struct textbuf *why)
{
	send_message(fd, FAILED, why->data, why->len);
}
