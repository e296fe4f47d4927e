/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * main.c - ttallocd: puts the parts together, runs the loop, and takes them apart again.
 *
 * Order matters in both directions. Sockets are opened before the mount, so that a second server is refused before it
 * has touched anything; at the end whoever waits for an answer gets one first, then the mount goes, then the sockets.
 * A part that fails leaves nothing behind: server_stop() takes down whatever there is.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "fs/control.h"
#include "fs/daemon.h"
#include "fs/dumps.h"
#include "fs/handle.h"
#include "fs/mountpoint.h"
#include "fs/nodes.h"
#include "fs/ops.h"
#include "fs/options.h"
#include "fs/session.h"
#include "fs/tree.h"
#include "tracker/ingest.h"
#include "tracker/intake.h"
#include "tracker/log.h"
#include "tracker/loop.h"
#include "tracker/naming.h"
#include "tracker/registry.h"
#include "tracker/trace.h"
#include "tracker/view.h"

struct server {
	struct options options;
	int daemon;               /* where the parent waits, -1 = nowhere */
	struct textbuf why;       /* what went wrong */
	struct loop *loop;
	struct log *log;
	void *arena;
	size_t arena_size;
	struct registry *registry;
	struct trace trace;
	struct errlog errlog;
	struct ingest state;
	struct naming *naming;
	struct server_info info;
	struct view view;
	struct spool_pool pool;
	struct dumps dumps;
	struct tree *tree;
	struct handles *handles;
	struct control *control;
	struct intake *intake;
	struct ops *ops;
	char *socket, *compat_socket;  /* absolute, NULL = none */
	struct mountpoint mountpoint;
	struct session *session;
	struct loop_source signals;
};

static int fail(struct server *s, const char *what, int r)
{
	if (r < 0 && !s->why.len)
		textbuf_printf(&s->why, "%s: %s", what, strerror(-r));
	return r;
}

/* ---- signals ---- */

static void on_signal(struct loop_source *source, uint32_t events)
{
	struct server *s = loop_owner(source, struct server, signals);
	struct signalfd_siginfo info;

	if (read(source->fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	if (info.ssi_signo == SIGUSR1) {
		control_dump(s->control, CONTROL_SIGNAL);
		return;
	}
	log_line(s->log, LOG_LEVEL_INFO, "%s: ending", strsignal((int)info.ssi_signo));
	loop_stop(s->loop, EXIT_SUCCESS);
}

/* SIGHUP is ignored: a server has no terminal to lose. SIGPIPE is: writes tell. SIGXFSZ
 * is: a ring is a file of 4 GiB, and where that is too large, it is refused. */
static int open_signals(struct server *s)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	s->signals.ready = on_signal;
	s->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->signals.fd < 0 ? -errno : loop_add(s->loop, &s->signals, EPOLLIN);
}

/* ---- the parts ---- */

static int open_loop(struct server *s)
{
	int r = loop_new(&s->loop);

	/* Whoever starts a server that cannot run is told why, and nothing else. */
	if (r == 0)
		r = log_new(&s->log, s->loop, STDERR_FILENO, LOG_LEVEL_WARNING);
	return r < 0 ? r : open_signals(s);
}

static int open_registry(struct server *s)
{
	struct registry_config config = {
		.max_buffers = s->options.max_buffers,
		.history_events = REGISTRY_HISTORY_EVENTS_DEFAULT,
		.history_per_buffer = REGISTRY_HISTORY_PER_BUFFER_DEFAULT,
		.max_processes = REGISTRY_MAX_PROCESSES_DEFAULT,
	};

	if (getrandom(&config.seed, sizeof(config.seed), 0) != (ssize_t)sizeof(config.seed))
		return -errno;
	s->arena_size = registry_arena_size(&config);
	s->arena = mmap(NULL, s->arena_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			-1, 0);
	if (s->arena == MAP_FAILED) {
		s->arena = NULL;
		return -errno;
	}
	int r = registry_new(&s->registry, &config, s->arena);

	return r < 0 ? r : naming_new(&s->naming, s->loop, s->registry, &s->errlog, config.seed);
}

static void declare_devices(struct server *s)
{
	for (unsigned id = 0; id < DEVICE_MAX; id++) {
		const struct options_device *d = &s->options.device[id];
		if (d->given)
			registry_device_declare(s->registry, id, d->dram, d->l1, d->arch);
	}
}

static int describe(struct server *s)
{
	uint64_t instance;

	if (getrandom(&instance, sizeof(instance), 0) != (ssize_t)sizeof(instance))
		return -errno;
	s->info.version = TTALLOC_VERSION;
	s->info.pid = getpid();
	snprintf(s->info.instance, sizeof(s->info.instance), "%016" PRIx64, instance);
	s->info.started = loop_now();
	s->info.max_clients = INTAKE_MAX_CLIENTS_DEFAULT;
	s->state = (struct ingest){ s->registry, &s->trace, &s->errlog };
	s->view = (struct view){ .registry = s->registry, .trace = &s->trace, .errlog = &s->errlog,
				  .server = &s->info, .symbols = naming_symbols(s->naming), .now = s->info.started };
	return 0;
}

static int open_state(struct server *s)
{
	int r = open_registry(s);

	if (r == 0)
		r = trace_init(&s->trace, TRACE_EVENTS_DEFAULT);
	if (r == 0)
		r = describe(s);
	if (r < 0)
		return r;
	declare_devices(s);
	dumps_init(&s->dumps, DUMPS_LIMIT_DEFAULT, &s->pool);
	return 0;
}

static int open_files(struct server *s)
{
	const struct tree_config tree = { &s->view, &s->dumps, geteuid(), getegid() };
	struct handles_config handles = { NULL, &s->view, &s->errlog, &s->dumps, &s->pool };
	int r = tree_new(&s->tree, nodes, nodes_count, &tree);

	handles.tree = s->tree;
	if (r == 0)
		r = handles_new(&s->handles, &handles);
	if (r == 0)
		r = control_new(&s->control, &(struct control_config){
			.loop = s->loop,
			.log = s->log,
			.state = &s->state,
			.server = &s->info,
			.view = &s->view,
			.dumps = &s->dumps,
			.tree = s->tree,
		});
	if (r == 0)
		r = ops_new(&s->ops, &(struct ops_config){
			.loop = s->loop,
			.server = &s->info,
			.view = &s->view,
			.dumps = &s->dumps,
			.tree = s->tree,
			.handles = s->handles,
			.control = s->control,
			.pool = &s->pool,
		});
	return r;
}

static void on_client_dump(void *data)
{
	struct server *s = data;

	control_dump(s->control, CONTROL_CLIENT);
}

static void on_site(void *data, uint32_t site, const struct site_frame *frames, uint32_t process)
{
	struct server *s = data;

	naming_site(s->naming, site, frames, process);
}

/* The server does not stay in the directory where it was started. */
static int make_absolute(const char *path, char **absolute)
{
	char *here = NULL;

	*absolute = NULL;
	if (!path)
		return 0;
	if (*path == '/') {
		*absolute = strdup(path);
	} else if ((here = getcwd(NULL, 0)) && asprintf(absolute, "%s/%s", here, path) < 0) {
		*absolute = NULL;
	}
	free(here);
	return *absolute ? 0 : -errno;
}

static int open_socket(struct server *s, const char *path)
{
	return path ? fail(s, path, intake_listen(s->intake, path, &s->why)) : 0;
}

static int open_sockets(struct server *s)
{
	const struct intake_config config = {
		.loop = s->loop,
		.log = s->log,
		.ingest = &s->state,
		.info = &s->info,
		.dump = on_client_dump,
		.sited = on_site,
		.data = s,
	};
	int r = intake_new(&s->intake, &config);

	if (r < 0)
		return r;
	control_set_intake(s->control, s->intake);
	r = make_absolute(s->options.socket, &s->socket);
	if (r == 0)
		r = make_absolute(s->options.compat_socket, &s->compat_socket);
	if (r == 0)
		r = open_socket(s, s->socket);
	if (r == 0)
		r = open_socket(s, s->compat_socket);
	s->info.socket = s->socket;
	s->info.compat_socket = s->compat_socket;
	return r;
}

static void on_ready(void *data)
{
	struct server *s = data;

	log_line(s->log, LOG_LEVEL_INFO, "ready: mounted on %s, listening on %s and %s", s->mountpoint.path,
		 s->socket ? s->socket : "none", s->compat_socket ? s->compat_socket : "none");
	if (s->daemon >= 0)
		daemon_ready(&s->daemon, s->mountpoint.path);
	else
		sd_notify(0, "READY=1");
}

static void on_gone(void *data)
{
	struct server *s = data;

	log_line(s->log, LOG_LEVEL_WARNING, "%s was unmounted: ending", s->mountpoint.path);
	loop_stop(s->loop, EXIT_SUCCESS);
}

static int open_mount(struct server *s)
{
	const struct session_config config = {
		.loop = s->loop,
		.ops = s->ops,
		.path = s->mountpoint.path,
		.ready = on_ready,
		.gone = on_gone,
		.data = s,
	};

	s->info.mountpoint = s->mountpoint.path;
	return session_new(&s->session, &config, &s->why);
}

/* ---- start, stop ---- */

static int server_start(struct server *s)
{
	int r = fail(s, "event loop", open_loop(s));

	if (r == 0)
		r = fail(s, "tables", open_state(s));
	if (r == 0)
		r = fail(s, "files", open_files(s));
	if (r == 0)
		r = fail(s, s->options.mount, mountpoint_prepare(&s->mountpoint, s->options.mount, &s->why));
	if (r == 0)
		r = fail(s, "sockets", open_sockets(s));
	if (r == 0)
		r = fail(s, "mount", open_mount(s));
	if (r == 0 && s->daemon >= 0 && chdir("/") < 0)
		r = fail(s, "/", -errno);
	if (r == 0)
		log_set_level(s->log, s->options.log);
	return r;
}

static void server_stop(struct server *s)
{
	sd_notify(0, "STOPPING=1");
	if (s->control)
		control_stop(s->control);
	if (s->ops)
		ops_stop(s->ops);
	session_free(s->session);
	mountpoint_release(&s->mountpoint);
	intake_free(s->intake);
	free(s->socket);
	free(s->compat_socket);
	ops_free(s->ops);
	control_free(s->control);
	handles_free(s->handles);
	tree_free(s->tree);
	dumps_deinit(&s->dumps);
	spool_pool_free(&s->pool, SIZE_MAX);
	trace_deinit(&s->trace);
	naming_free(s->naming);
	registry_free(s->registry);
	if (s->arena)
		munmap(s->arena, s->arena_size);
	if (s->signals.fd >= 0) {
		loop_remove(s->loop, &s->signals);
		close(s->signals.fd);
	}
	log_free(s->log);
	loop_free(s->loop);
}

/* ---- main ---- */

static void say_failure(struct server *s)
{
	if (s->daemon >= 0)
		daemon_failed(&s->daemon, &s->why);
	else
		fprintf(stderr, "ttallocd: %.*s\n", (int)s->why.len, s->why.data);
}

/* --help and --version: true = there is nothing else to do. */
static bool answer_question(const struct options *o)
{
	struct textbuf text = TEXTBUF_INIT;

	if (o->help)
		options_usage(&text);
	else if (o->version)
		textbuf_puts(&text, "ttallocd " TTALLOC_VERSION "\n");
	if (text.len)
		fwrite(text.data, 1, text.len, stdout);
	textbuf_deinit(&text);
	return o->help || o->version;
}

/* Descriptors 0, 1 and 2 are what they are taken for. */
static void open_standard_files(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	static struct server s = { .daemon = -1, .signals.fd = -1 };
	int status = DAEMON_FAILED;

	open_standard_files();
	if (options_parse(&s.options, argc, argv, &s.why) < 0)
		goto out;
	if (answer_question(&s.options)) {
		status = EXIT_SUCCESS;
		goto out;
	}
	if (!s.options.foreground && fail(&s, "background", daemon_start(&s.daemon)) < 0)
		goto out;
	if (server_start(&s) == 0)
		status = loop_run(s.loop);
	server_stop(&s);
out:
	if (s.why.len)
		say_failure(&s);
	textbuf_deinit(&s.why);
	return status < 0 ? EXIT_FAILURE : status;
}
