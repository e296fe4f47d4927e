/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * bench-fuse.c - the floor of the benchmark: a FUSE server that has one file and nothing to do.
 *
 *   bench-fuse DIR
 *
 * What the kernel asks of it for an open-read-close of DIR/record is what it asks ttallocd for a buffer's record, with
 * the same mount options and the same answers: the name is looked up each time, nothing is cached, the last read gives
 * 0 bytes. Writes one byte to standard output when it is mounted; SIGTERM ends it.
 */
#define FUSE_USE_VERSION 314

#include <errno.h>
#include <fuse_lowlevel.h>
#include <string.h>
#include <unistd.h>

#define FILE_INODE 2
#define MOMENT 1e-9  /* attributes that came with the name count for the rest of the system call */
#define OPTIONS "-ofsname=ttalloc-bench,subtype=ttalloc-bench,nosuid,nodev,noexec,default_permissions"

/* As long as a record is. */
static const char text[] =
	"address 0x000040000000\ndevice 0\ntype dram\nsize 4096\nrefs 1\npid 12345\nuid 0\ncomm bench\n"
	"allocated 1732082104.123456\nseq 1\nhistory allocs=1 frees=0\n"
	"  1732082104.123456 ALLOC size=4096 pid=12345 ref=1\n";

static struct stat attributes(fuse_ino_t inode)
{
	struct stat st = { .st_ino = inode, .st_mode = S_IFDIR | 0555, .st_nlink = 2 };

	if (inode == FILE_INODE) {
		st.st_mode = S_IFREG | 0444;
		st.st_nlink = 1;
		st.st_size = sizeof(text) - 1;
	}
	return st;
}

static void op_init(void *data, struct fuse_conn_info *conn)
{
	conn->want &= ~(unsigned)(FUSE_CAP_ASYNC_DIO | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
				  FUSE_CAP_SPLICE_MOVE);
	if (write(STDOUT_FILENO, "m", 1) != 1)
		_exit(1);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { .ino = FILE_INODE, .attr = attributes(FILE_INODE), .attr_timeout = MOMENT };

	if (strcmp(name, "record") == 0)
		fuse_reply_entry(req, &e);
	else
		fuse_reply_err(req, ENOENT);
}

static void op_getattr(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *fi)
{
	struct stat st = attributes(inode);

	fuse_reply_attr(req, &st, inode == FILE_INODE ? 0 : 3600);
}

static void op_open(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *fi)
{
	fi->direct_io = 1;
	fi->noflush = 1;
	fuse_reply_open(req, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset, struct fuse_file_info *fi)
{
	size_t left = (size_t)offset < sizeof(text) - 1 ? sizeof(text) - 1 - (size_t)offset : 0;

	fuse_reply_buf(req, left ? text + offset : NULL, size < left ? size : left);
}

static void op_release(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.getattr = op_getattr,
	.open = op_open,
	.read = op_read,
	.release = op_release,
};

int main(int argc, char **argv)
{
	char options[] = OPTIONS ",allow_other";
	char *mount[] = { argv[0], options, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(2, mount);
	int r = -1;

	if (argc != 2)
		return 2;
	/* Only root may open the mount to others without being asked whether it is allowed. */
	if (geteuid() != 0)
		*strstr(options, ",allow_other") = '\0';
	struct fuse_session *session = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	if (session && fuse_set_signal_handlers(session) == 0 && fuse_session_mount(session, argv[1]) == 0) {
		r = fuse_session_loop(session);
		fuse_session_unmount(session);
	}
	if (session)
		fuse_session_destroy(session);
	fuse_opt_free_args(&args);
	return r < 0;
}
