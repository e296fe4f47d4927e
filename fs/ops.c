/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ops.c - what the kernel asks, answered; the contract is in ops.h.
 *
 * A parked read or listing is in one of two lists: `running` ones get a step per turn of the loop until they can be
 * answered, `sleeping` ones wait for the trace to move. A signal to the reader answers a sleeping one with EINTR.
 */
#define FUSE_USE_VERSION 314

#include "fs/ops.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "fs/inode.h"

#define NAME_TIMEOUT 3600.0            /* of names and attributes that last */
#define MOMENT 1e-9                    /* the kernel makes a tick of it */
#define TRANSFER_MAX (128U << 10)      /* bytes of one read or write */
#define LIST_ENTRIES 512               /* of one answer: about 150 us */
#define LIST_CHUNKS 16384              /* of the registry, looked at for one answer */
#define STEP_NS UINT64_C(150000)       /* no further step is begun in a turn after this time */
#define POOL_MS 10                     /* after which a block that nobody took is given back */
#define FIXED_DIRS_MAX 16
#define INTERRUPT_GRACE_NS UINT64_C(1000000000)
#define STATFS_BLOCK 4096
#define NAME_LENGTH_MAX 255

static_assert(TRANSFER_MAX == SPOOL_READ_MAX, "an answer lies in SPOOL_IOV places");

struct parked {
	TAILQ_ENTRY(parked) link;
	struct ops *ops;
	fuse_req_t req;
	uint64_t handle;
	uint64_t offset;
	size_t size;
	bool sleeping;
	uint64_t until;  /* a signal came: so long it may still be answered; 0 = none came */
};
TAILQ_HEAD(parked_list, parked);

struct parked_write {
	struct control_write write;
	fuse_req_t req;
};

struct known_dir {
	uint64_t number;
	unsigned subdirs;
};

struct ops {
	struct ops_config config;
	struct fuse_session *session;
	bool connected;
	struct parked_list running, sleeping;
	struct loop_work read_work;
	struct loop_work poll_work;
	struct loop_timer pool_timer;
	struct loop_hook hook;
	uint64_t trace_seen;       /* position of the trace when the sleepers were woken last */
	uint64_t polled_version;   /* of everything, at the beginning of the last round over the pollers */
	size_t poll_at;            /* where that round stands */
	unsigned pollers;          /* handles with somebody waiting */
	struct known_dir dir[FIXED_DIRS_MAX];
	unsigned dirs;
	char list[TRANSFER_MAX];   /* the answer to a listing */
};

static struct ops *ops_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static struct handle *handle_of_request(fuse_req_t req, const struct fuse_file_info *fi)
{
	return handle_get(ops_of(req)->config.handles, fi->fh);
}

/* ---- names and attributes ---- */

static void forget_attributes(void *data, const uint64_t *numbers, unsigned n)
{
	struct ops *o = data;

	for (unsigned i = 0; i < n && o->session && o->connected; i++)
		fuse_lowlevel_notify_inval_inode(o->session, numbers[i], -1, 0);
}

/* The kernel has checked the mode, but that does not stop root from opening a file for writing that takes nothing. */
static bool may_open(const struct node *node, int flags)
{
	return (flags & O_ACCMODE) == O_RDONLY || node->kind == NODE_CTL || node->kind == NODE_OPTION ||
	       node->kind == NODE_LIST;
}

static double attr_timeout(const struct ops *o, const struct place *p)
{
	return tree_attr_lasts(o->config.tree, p) ? NAME_TIMEOUT : 0;
}

/* Records and dumps: the name has to be looked up at every access, and brings the attributes along. They count as new
 * for the rest of the system call (a tick of the kernel's clock), which saves asking for them at once again. But what
 * is open is asked for every time, for its length is that of the descriptor's text: see open_handle(). */
static bool is_fleeting(const struct ops *o, const struct place *p)
{
	return !tree_name_lasts(o->config.tree, p) && !tree_attr_lasts(o->config.tree, p);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct ops *o = ops_of(req);
	struct fuse_entry_param e = { 0 };
	struct place dir, p;
	int r = strlen(name) > NAME_LENGTH_MAX ? -ENAMETOOLONG : tree_get(o->config.tree, parent, &dir);

	if (r == 0)
		r = tree_lookup(o->config.tree, &dir, name, &p);
	if (r == 0)
		r = tree_attr(o->config.tree, &p, NULL, &e.attr);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	e.ino = p.number;
	e.entry_timeout = tree_name_lasts(o->config.tree, &p) ? NAME_TIMEOUT : 0;
	e.attr_timeout = attr_timeout(o, &p);
	if (is_fleeting(o, &p) && !handle_of(o->config.handles, p.number, 0))
		e.attr_timeout = MOMENT;
	fuse_reply_entry(req, &e);
}

/* What has gone since the path was looked up. Only for a name that the kernel remembers, looking it up again can
 * help. */
static int gone(const struct ops *o, uint64_t number, int r)
{
	if (r != -ENOENT && r != -ESTALE)
		return -r;
	return tree_number_lasts(o->config.tree, number) ? ESTALE : ENOENT;
}

/* Whether `pid`, which can be a thread, may hold what `opener` has opened. */
static bool same_process(pid_t pid, pid_t opener)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d", (int)pid, (int)opener);
	return pid == opener || access(path, F_OK) == 0;
}

/* The descriptor that is asked about. For fstat() the kernel does not say which: one of the caller's own, whose length
 * is that of the text it was given. Somebody else's tells nothing about the file as it is now. */
static const struct handle *handle_asked_about(fuse_req_t req, uint64_t number, const struct fuse_file_info *fi,
					       bool file_is_there)
{
	pid_t pid = fuse_req_ctx(req)->pid;
	const struct handle *h;

	if (fi)
		return handle_of_request(req, fi);
	h = handle_of(ops_of(req)->config.handles, number, pid);
	return h && file_is_there && !same_process(pid, h->opener) ? NULL : h;
}

/* A file whose thing has gone is only asked for through a descriptor, since a path would have been looked up, or its
 * directory would be gone as well. */
static void op_getattr(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct place p;
	struct stat st;
	int r = tree_get(o->config.tree, number, &p);

	if (r == 0)
		r = tree_attr(o->config.tree, &p, NULL, &st);
	const struct handle *h = handle_asked_about(req, number, fi, r == 0);
	if (r < 0 && h && h->node->kind != NODE_DIR) {
		st = h->attr;
		st.st_nlink = 0;
		fuse_reply_attr(req, &st, 0);
		return;
	}
	if (r < 0) {
		fuse_reply_err(req, gone(o, number, r));
		return;
	}
	if (h && p.node->show)
		st.st_size = h->attr.st_size;
	else if (h && p.node->kind == NODE_TABLE && h->ended)
		st.st_size = (off_t)h->spool.end;  /* not less than all of it: tools would stop there */
	fuse_reply_attr(req, &st, attr_timeout(o, &p));
}

/* Truncating is part of `>` and means nothing here; everything else about a file is not to be changed. */
static void op_setattr(fuse_req_t req, fuse_ino_t number, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct place p;

	if (to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID) || !(to_set & FUSE_SET_ATTR_SIZE))
		fuse_reply_err(req, EPERM);
	else if (tree_get(ops_of(req)->config.tree, number, &p) == 0 && !may_open(p.node, O_WRONLY))
		fuse_reply_err(req, EACCES);
	else
		op_getattr(req, number, fi);
}

/* What is known of a device's capacity, or what is in use where nothing is known. */
static void add_device_space(const struct device *d, struct statvfs *st)
{
	for (unsigned type = 0; type < BUFFER_TYPES; type++) {
		uint64_t used = d->type[type].bytes;
		uint64_t capacity = d->capacity[type] > used ? d->capacity[type] : used;
		st->f_blocks += capacity / STATFS_BLOCK;
		st->f_bfree += (capacity - used) / STATFS_BLOCK;
	}
}

static void op_statfs(fuse_req_t req, fuse_ino_t number)
{
	const struct registry *reg = ops_of(req)->config.view->registry;
	struct statvfs st = { .f_bsize = STATFS_BLOCK, .f_frsize = STATFS_BLOCK, .f_namemax = NAME_LENGTH_MAX };
	uint64_t live = registry_totals(reg).count;

	for (int id = registry_device_next(reg, 0); id >= 0; id = registry_device_next(reg, (unsigned)id + 1))
		add_device_space(registry_device(reg, (unsigned)id), &st);
	st.f_bavail = st.f_bfree;
	st.f_files = live > registry_max_buffers(reg) ? live : registry_max_buffers(reg);
	st.f_ffree = st.f_files - live;
	st.f_favail = st.f_ffree;
	fuse_reply_statfs(req, &st);
}

/* ---- opening ---- */

static void open_handle(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct handle *h = NULL;
	struct place p;
	int r = tree_get(o->config.tree, number, &p);

	if (r == 0 && !may_open(p.node, fi->flags))
		r = -EACCES;
	if (r == 0)
		r = handle_open(o->config.handles, &p, fuse_req_ctx(req)->pid, &h);
	if (r < 0) {
		fuse_reply_err(req, gone(o, number, r));
		return;
	}
	if (is_fleeting(o, &p))
		forget_attributes(o, &p.number, 1);
	fi->fh = h->id;
	fi->direct_io = p.node->kind != NODE_DIR;
	fi->noflush = 1;
	if (fuse_reply_open(req, fi) == -ENOENT)
		handle_close(o->config.handles, h);
}

static void stop_polling(struct ops *o, struct handle *h)
{
	if (!h->poll)
		return;
	fuse_pollhandle_destroy(h->poll);
	h->poll = NULL;
	o->pollers--;
}

static void op_release(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct handle *h = handle_of_request(req, fi);

	if (h) {
		stop_polling(o, h);
		handle_close(o->config.handles, h);
	}
	fuse_reply_err(req, 0);
}

/* ---- parking ---- */

static void unpark(struct parked *p)
{
	TAILQ_REMOVE(p->sleeping ? &p->ops->sleeping : &p->ops->running, p, link);
	free(p);
}

static void interrupted(fuse_req_t req, void *data)
{
	struct parked *p = data;
	const struct handle *h = handle_get(p->ops->config.handles, p->handle);

	/* Few programs try a read of a file again, and what is only being produced is there in a moment. */
	if (h && h->node->kind != NODE_STREAM) {
		p->until = loop_monotonic() + INTERRUPT_GRACE_NS;
		return;
	}
	unpark(p);
	fuse_reply_err(req, EINTR);
}

static void run(struct parked *p)
{
	p->sleeping = false;
	TAILQ_INSERT_TAIL(&p->ops->running, p, link);
	loop_work_add(p->ops->config.loop, &p->ops->read_work);
}

static void park(fuse_req_t req, const struct handle *h, uint64_t offset, size_t size)
{
	struct ops *o = ops_of(req);

	struct parked *p = malloc(sizeof(*p));
	if (!p) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	*p = (struct parked){ .ops = o, .req = req, .handle = h->id, .offset = offset, .size = size };
	if (h->node->kind == NODE_STREAM) {
		p->sleeping = true;
		TAILQ_INSERT_TAIL(&o->sleeping, p, link);
	} else {
		run(p);
	}
	fuse_req_interrupt_func(req, interrupted, p);  /* calls it at once if the signal has come already */
}

/* ---- reading ---- */

/* false: not yet. */
static bool answer_read(fuse_req_t req, struct handle *h, uint64_t offset, size_t size, bool again)
{
	struct iovec iov[SPOOL_IOV];
	int n;
	int r = handle_read(ops_of(req)->config.handles, h, offset, size, again, iov, &n);

	if (r == -EAGAIN)
		return false;
	if (r < 0)
		fuse_reply_err(req, -r);
	else if (n)
		fuse_reply_iov(req, iov, n);
	else
		fuse_reply_buf(req, NULL, 0);
	return true;
}

static void op_read(fuse_req_t req, fuse_ino_t number, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct handle *h = handle_of_request(req, fi);

	/* A stream shows what there is now, and a text that is read from its beginning again is a new one. */
	if (h && (h->node->kind == NODE_STREAM || (offset == 0 && h->begun)))
		loop_drain(ops_of(req)->config.loop);
	if (!h)
		fuse_reply_err(req, EBADF);
	else if (answer_read(req, h, (uint64_t)offset, size, false))
		return;
	else if (h->node->kind == NODE_STREAM && fi->flags & O_NONBLOCK)
		fuse_reply_err(req, EAGAIN);
	else
		park(req, h, (uint64_t)offset, size);
}

/* Fills the answer from *offset on, which is moved. How many bytes; -EAGAIN = none yet. */
static ssize_t list(struct ops *o, const struct place *dir, const struct handle *h, uint64_t *offset, size_t size)
{
	unsigned budget = LIST_CHUNKS;
	size_t len = 0;

	if (size > sizeof(o->list))
		size = sizeof(o->list);
	for (unsigned i = 0; i < LIST_ENTRIES; i++) {
		struct tree_entry e;
		uint64_t next = *offset;
		int r = tree_list(o->config.tree, dir, &next, h->since, &budget, &e);
		if (r <= 0) {
			*offset = next;
			return len || !r ? (ssize_t)len : r;
		}
		struct stat st = { .st_ino = e.number, .st_mode = e.mode };
		size_t needed = fuse_add_direntry(NULL, o->list + len, size - len, e.name, &st, (off_t)e.next);
		if (needed > size - len)
			break;
		len += needed;
		*offset = next;
	}
	return (ssize_t)len;
}

/* false: not yet, *offset is where to go on. */
static bool answer_list(fuse_req_t req, struct handle *h, uint64_t *offset, size_t size)
{
	struct ops *o = ops_of(req);
	struct place dir;
	ssize_t len = tree_get(o->config.tree, h->number, &dir);

	if (*offset == 0)
		h->since = registry_seq(o->config.view->registry);
	if (len == 0)
		len = list(o, &dir, h, offset, size);
	if (len == -EAGAIN)
		return false;
	if (len < 0)
		fuse_reply_err(req, (int)-len);
	else
		fuse_reply_buf(req, o->list, (size_t)len);
	return true;
}

static void op_readdir(fuse_req_t req, fuse_ino_t number, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct handle *h = handle_of_request(req, fi);
	uint64_t at = (uint64_t)offset;

	if (offset == 0)
		loop_drain(ops_of(req)->config.loop);
	if (!h)
		fuse_reply_err(req, EBADF);
	else if (!answer_list(req, h, &at, size))
		park(req, h, at, size);
}

/* One more try for the first in the list of running ones. */
static void try_again(struct ops *o, struct parked *p)
{
	struct handle *h = handle_get(o->config.handles, p->handle);
	bool answered = true;

	if (!h)
		fuse_reply_err(p->req, EBADF);
	else if (h->node->kind == NODE_DIR)
		answered = answer_list(p->req, h, &p->offset, p->size);
	else
		answered = answer_read(p->req, h, p->offset, p->size, true);
	if (!answered && p->until && loop_monotonic() >= p->until) {
		fuse_reply_err(p->req, EINTR);
		answered = true;
	}
	if (answered) {
		unpark(p);
		return;
	}
	TAILQ_REMOVE(&o->running, p, link);
	p->sleeping = h->node->kind == NODE_STREAM;
	if (p->sleeping)
		TAILQ_INSERT_TAIL(&o->sleeping, p, link);
	else
		TAILQ_INSERT_TAIL(&o->running, p, link);
}

static bool read_step(struct loop_work *w)
{
	struct ops *o = loop_owner(w, struct ops, read_work);
	uint64_t until = loop_monotonic() + STEP_NS;

	o->config.view->now = loop_now();
	while (!TAILQ_EMPTY(&o->running)) {
		try_again(o, TAILQ_FIRST(&o->running));
		if (loop_monotonic() >= until)
			break;
	}
	return !TAILQ_EMPTY(&o->running);
}

/* ---- writing ---- */

static void written(struct control_write *w, ssize_t result)
{
	struct parked_write *p = loop_owner(w, struct parked_write, write);

	if (result < 0)
		fuse_reply_err(p->req, (int)-result);
	else
		fuse_reply_write(p->req, (size_t)result);
	free(p);
}

static struct parked_write *park_write(fuse_req_t req)
{
	struct parked_write *p = malloc(sizeof(*p));

	if (p)
		*p = (struct parked_write){ .write.done = written, .req = req };
	else
		fuse_reply_err(req, ENOMEM);
	return p;
}

static void write_list(fuse_req_t req, const struct place *file, const char *text, size_t len, off_t offset,
		       const struct fuse_file_info *fi)
{
	struct parked_write *p = park_write(req);

	if (p)
		control_list(ops_of(req)->config.control, &p->write, file, fuse_req_ctx(req)->pid, text, len,
			     (uint64_t)offset, fi->flags & O_APPEND);
}

static void write_commands(fuse_req_t req, const struct place *file, const char *text, size_t len)
{
	struct parked_write *p = park_write(req);

	if (p)
		control_write(ops_of(req)->config.control, &p->write, file, fuse_req_ctx(req)->pid, text, len);
}

static void op_write(fuse_req_t req, fuse_ino_t number, const char *text, size_t len, off_t offset,
		     struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct place file;
	int r = tree_get(o->config.tree, number, &file);

	if (r < 0) {
		fuse_reply_err(req, ESRCH);
	} else if (file.node->kind == NODE_CTL) {
		write_commands(req, &file, text, len);
	} else if (file.node->kind == NODE_LIST) {
		write_list(req, &file, text, len, offset, fi);
	} else if (file.node->kind == NODE_OPTION) {
		ssize_t n = control_option(o->config.control, &file, fuse_req_ctx(req)->pid, text, len);
		if (n < 0)
			fuse_reply_err(req, (int)-n);
		else
			fuse_reply_write(req, (size_t)n);
	} else {
		fuse_reply_err(req, EACCES);
	}
}

static void op_fsync(fuse_req_t req, fuse_ino_t number, int datasync, struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct ops *o = ops_of(req);
	struct place dir, p;
	int r = tree_get(o->config.tree, parent, &dir);

	if (r == 0)
		r = tree_lookup(o->config.tree, &dir, name, &p);
	if (r == 0 && p.node->kind != NODE_DUMP)
		r = -EPERM;
	if (r == 0)
		dumps_remove(o->config.dumps, p.dump);
	fuse_reply_err(req, -r);
}

/* ---- polling ---- */

static unsigned poll_events(struct ops *o, struct handle *h)
{
	unsigned events = 0;

	if (handle_ready(o->config.handles, h))
		events |= POLLIN | POLLRDNORM;
	if (may_open(h->node, O_WRONLY))
		events |= POLLOUT | POLLWRNORM;
	if (handle_changed(o->config.handles, h))
		events |= POLLPRI | POLLERR;
	return events;
}

static void op_poll(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi, struct fuse_pollhandle *ph)
{
	struct ops *o = ops_of(req);
	struct handle *h = handle_of_request(req, fi);

	if (!h) {
		if (ph)
			fuse_pollhandle_destroy(ph);
		fuse_reply_err(req, EBADF);
		return;
	}
	if (ph) {
		stop_polling(o, h);
		h->poll = ph;
		o->pollers++;
	}
	fuse_reply_poll(req, poll_events(o, h));
}

static bool worth_waking(struct ops *o, struct handle *h)
{
	if (h->node->kind == NODE_STREAM)
		return handle_ready(o->config.handles, h);
	return handle_changed(o->config.handles, h);
}

/* One round over the handles, some in each turn. */
static bool poll_step(struct loop_work *w)
{
	struct ops *o = loop_owner(w, struct ops, poll_work);
	uint64_t until = loop_monotonic() + STEP_NS;
	struct handle *h;

	o->config.view->now = loop_now();
	while (o->pollers && (h = handle_each(o->config.handles, &o->poll_at))) {
		if (h->poll && worth_waking(o, h)) {
			fuse_lowlevel_notify_poll(h->poll);
			stop_polling(o, h);
		}
		if (loop_monotonic() >= until)
			return true;
	}
	o->poll_at = 0;
	return false;
}

/* ---- what has changed in a turn ---- */

static void wake_sleepers(struct ops *o)
{
	struct parked *p;

	if (o->trace_seen == o->config.view->trace->next)
		return;
	o->trace_seen = o->config.view->trace->next;
	while ((p = TAILQ_FIRST(&o->sleeping))) {
		TAILQ_REMOVE(&o->sleeping, p, link);
		run(p);
	}
}

static void wake_pollers(struct ops *o)
{
	uint64_t version = handles_version(o->config.handles);

	if (!o->pollers || o->poll_at || version == o->polled_version)
		return;
	o->polled_version = version;
	loop_work_add(o->config.loop, &o->poll_work);
}

/* The number of links tells how many directories there are in a directory, and the kernel remembers it. */
static void watch_dirs(struct ops *o)
{
	for (unsigned i = 0; i < o->dirs; i++) {
		struct place p;
		if (tree_get(o->config.tree, o->dir[i].number, &p) < 0)
			continue;
		unsigned subdirs = tree_subdirs(o->config.tree, &p);
		if (subdirs != o->dir[i].subdirs)
			forget_attributes(o, &o->dir[i].number, 1);
		o->dir[i].subdirs = subdirs;
	}
}

/* The text of a table is read again soon, or not for a long time. */
static void pool_expired(struct loop_timer *t)
{
	spool_pool_free(loop_owner(t, struct ops, pool_timer)->config.pool, 1);
}

static void turn(struct loop_hook *h)
{
	struct ops *o = loop_owner(h, struct ops, hook);

	if (o->config.pool->blocks && !o->pool_timer.deadline)
		loop_timer_set(o->config.loop, &o->pool_timer, POOL_MS);
	wake_sleepers(o);
	wake_pollers(o);
	watch_dirs(o);
}

/* ---- what is not to be done here ---- */

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	fuse_reply_err(req, EPERM);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	fuse_reply_err(req, EPERM);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, EPERM);
}

static void op_symlink(fuse_req_t req, const char *to, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, EPERM);
}

static void op_rename(fuse_req_t req, fuse_ino_t from, const char *name, fuse_ino_t to, const char *new_name,
		      unsigned int flags)
{
	fuse_reply_err(req, EPERM);
}

static void op_link(fuse_req_t req, fuse_ino_t number, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, EPERM);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	fuse_reply_err(req, EPERM);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t number, const char *name, const char *value, size_t size, int flags)
{
	fuse_reply_err(req, EPERM);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t number, const char *name)
{
	fuse_reply_err(req, EPERM);
}

/* ---- the table, and life ---- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct ops *o = userdata;

	conn->max_write = TRANSFER_MAX;
	conn->want &= ~(unsigned)(FUSE_CAP_ASYNC_DIO | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
				  FUSE_CAP_SPLICE_MOVE);
	conn->want |= conn->capable & FUSE_CAP_ATOMIC_O_TRUNC;
	o->connected = true;
}

const struct fuse_lowlevel_ops ops_table = {
	.init = op_init,
	.lookup = op_lookup,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.statfs = op_statfs,
	.open = open_handle,
	.opendir = open_handle,
	.release = op_release,
	.releasedir = op_release,
	.read = op_read,
	.readdir = op_readdir,
	.write = op_write,
	.fsync = op_fsync,
	.fsyncdir = op_fsync,
	.poll = op_poll,
	.unlink = op_unlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.create = op_create,
	.setxattr = op_setxattr,
	.removexattr = op_removexattr,
};
const size_t ops_table_size = sizeof(ops_table);

int ops_new(struct ops **op, const struct ops_config *config)
{
	uint64_t numbers[FIXED_DIRS_MAX];
	struct ops *o = calloc(1, sizeof(*o));

	if (!o)
		return -ENOMEM;
	o->config = *config;
	TAILQ_INIT(&o->running);
	TAILQ_INIT(&o->sleeping);
	o->read_work.step = read_step;
	o->poll_work.step = poll_step;
	o->pool_timer.expired = pool_expired;
	o->hook.turn = turn;
	o->dirs = tree_fixed_dirs(config->tree, numbers, FIXED_DIRS_MAX);
	for (unsigned i = 0; i < o->dirs; i++)
		o->dir[i].number = numbers[i];
	loop_hook_add(config->loop, &o->hook);
	control_set_forget(config->control, forget_attributes, o);
	*op = o;
	return 0;
}

void ops_free(struct ops *o)
{
	if (!o)
		return;
	ops_stop(o);
	free(o);
}

void ops_set_session(struct ops *o, struct fuse_session *session)
{
	o->session = session;
}

bool ops_connected(const struct ops *o)
{
	return o->connected;
}

void ops_request(struct ops *o)
{
	struct loop_turns turns = loop_turns(o->config.loop);
	struct server_info *server = o->config.server;

	o->config.view->now = loop_now();
	server->fs_requests++;
	server->turns = turns.count;
	server->turns_over_1ms = turns.slow;
	server->turn_max_ns = turns.max_ns;
}

void ops_stop(struct ops *o)
{
	struct handle *h;
	struct parked *p;
	size_t at = 0;

	loop_work_cancel(o->config.loop, &o->read_work);
	loop_work_cancel(o->config.loop, &o->poll_work);
	loop_timer_cancel(o->config.loop, &o->pool_timer);
	while ((p = TAILQ_FIRST(&o->running))) {
		h = handle_get(o->config.handles, p->handle);
		if (h && h->node->kind == NODE_STREAM)
			fuse_reply_buf(p->req, NULL, 0);
		else
			fuse_reply_err(p->req, EINTR);
		unpark(p);
	}
	while ((p = TAILQ_FIRST(&o->sleeping))) {
		fuse_reply_buf(p->req, NULL, 0);
		unpark(p);
	}
	while ((h = handle_each(o->config.handles, &at)))
		stop_polling(o, h);
}
