/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * session.c - the mount itself; the contract is in session.h.
 */
#define FUSE_USE_VERSION 314

#include "fs/session.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#define TURN_REQUESTS 64             /* answered in one turn of the loop at most, */
#define TURN_NS UINT64_C(300000)     /* and no further one is begun after this time */
#define OPTIONS "fsname=" MOUNT_SUBTYPE ",subtype=" MOUNT_SUBTYPE ",nosuid,nodev,noexec,default_permissions"
#define MESSAGE_MAX 512

struct session {
	struct session_config config;
	struct fuse_session *fuse;
	struct loop_source source;
	struct fuse_buf request;
	char device[32];  /* of the mount, to know it again */
	bool announced;
	bool gone;        /* somebody else has unmounted it */
};

/* ---- requests ---- */

/* Whether what is pending has to be booked first: an answer may depend on it. What is read of an open file was settled
 * when it was opened (ops.c knows the exceptions), and giving up a descriptor or a number tells nothing. */
static bool needs_all(const struct fuse_buf *request)
{
	struct fuse_in_header head;

	memcpy(&head, request->mem, sizeof(head));
	switch (head.opcode) {
	case FUSE_READ:
	case FUSE_READDIR:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
		return false;
	default:
		return true;
	}
}

/* false: there is none now. */
static bool answer_one(struct session *s)
{
	int r = fuse_session_receive_buf(s->fuse, &s->request);

	if (r == -EINTR)
		return true;
	if (r == -EAGAIN)
		return false;
	if (r <= 0) {
		loop_remove(s->config.loop, &s->source);
		s->gone = true;
		s->config.gone(s->config.data);
		return false;
	}
	if (needs_all(&s->request))
		loop_drain(s->config.loop);
	ops_request(s->config.ops);
	fuse_session_process_buf(s->fuse, &s->request);
	if (!s->announced && ops_connected(s->config.ops)) {
		s->announced = true;
		s->config.ready(s->config.data);
	}
	return true;
}

static void requests(struct loop_source *source, uint32_t events)
{
	struct session *s = loop_owner(source, struct session, source);
	uint64_t until = loop_monotonic() + TURN_NS;

	for (unsigned i = 0; i < TURN_REQUESTS && answer_one(s); i++)
		if (loop_monotonic() >= until)
			break;
}

/* ---- mounting ---- */

/* libfuse and its helper say what is wrong on standard error only. */
struct capture {
	int file;
	int saved;
};

static void capture_begin(struct capture *c)
{
	c->file = memfd_create("messages", MFD_CLOEXEC);
	c->saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	if (c->file >= 0 && c->saved >= 0)
		dup2(c->file, STDERR_FILENO);
}

/* The last line of what was said. */
static void capture_end(struct capture *c, char message[MESSAGE_MAX])
{
	ssize_t n = c->file < 0 ? -1 : pread(c->file, message, MESSAGE_MAX - 1, 0);

	message[n < 0 ? 0 : n] = '\0';
	while (n > 0 && message[n - 1] == '\n')
		message[--n] = '\0';
	const char *line = strrchr(message, '\n');
	if (line)
		memmove(message, line + 1, strlen(line));
	if (c->saved >= 0) {
		dup2(c->saved, STDERR_FILENO);
		close(c->saved);
	}
	if (c->file >= 0)
		close(c->file);
}

static int mount_there(struct session *s)
{
	char *options = geteuid() == 0 ? strdup("-o" OPTIONS ",allow_other") : strdup("-o" OPTIONS);
	char name[] = "ttallocd";
	char *argv[] = { name, options, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(2, argv);

	if (options)
		s->fuse = fuse_session_new(&args, &ops_table, ops_table_size, s->config.ops);
	free(options);
	fuse_opt_free_args(&args);
	if (!s->fuse)
		return -ENOMEM;
	return fuse_session_mount(s->fuse, s->config.path) < 0 ? -EIO : 0;
}

static int set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int session_new(struct session **sp, const struct session_config *config, struct textbuf *why)
{
	struct session *s = calloc(1, sizeof(*s));
	struct capture capture;
	char message[MESSAGE_MAX];
	int r;

	if (!s)
		return -ENOMEM;
	s->config = *config;
	s->source.ready = requests;
	capture_begin(&capture);
	r = mount_there(s);
	capture_end(&capture, message);
	if (r < 0) {
		textbuf_printf(why, "%s: cannot mount: %s", config->path, *message ? message : strerror(-r));
		session_free(s);
		return r;
	}
	mountpoint_device(config->path, s->device, sizeof(s->device));
	ops_set_session(config->ops, s->fuse);
	s->source.fd = fuse_session_fd(s->fuse);
	r = set_nonblocking(s->source.fd);
	if (r == 0)
		r = loop_add(config->loop, &s->source, EPOLLIN);
	if (r < 0) {
		session_free(s);
		return r;
	}
	*sp = s;
	return 0;
}

/* Another server may have been mounted over ours, or in its place after somebody detached it: that one stays. */
static bool still_ours(const struct session *s)
{
	char device[sizeof(s->device)];

	return *s->device && mountpoint_device(s->config.path, device, sizeof(device)) &&
	       strcmp(device, s->device) == 0;
}

void session_free(struct session *s)
{
	if (!s)
		return;
	ops_set_session(s->config.ops, NULL);
	loop_remove(s->config.loop, &s->source);
	if (s->fuse) {
		bool ours = still_ours(s);
		if (s->gone || ours)  /* gone: it only closes */
			fuse_session_unmount(s->fuse);
		if (s->gone && ours)  /* aborted from outside, but still to be seen */
			(void)mountpoint_detach(s->config.path);
		fuse_session_destroy(s->fuse);
	}
	free(s->request.mem);
	free(s);
}
