/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * intake.c - puts together listeners, connections and watched processes; the contract is in intake.h.
 */
#include "tracker/intake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tracker/listener.h"
#include "tracker/peer.h"
#include "tracker/ring.h"
#include "tracker/watch.h"

struct intake {
	struct loop *loop;
	struct log *log;
	struct watch_set watches;
	struct ring_set rings;
	struct peer_set peers;
	struct listener *listeners;
	int reserve;  /* a descriptor for turn_away() in listener.c */
};

/* A client takes a descriptor and its process another one; what the soft limit grants by default (1024) is for programs
 * that use select(). */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int intake_new(struct intake **inp, const struct intake_config *config)
{
	struct intake *in = calloc(1, sizeof(*in));
	int r;

	if (!in)
		return -ENOMEM;
	raise_descriptor_limit();
	in->loop = config->loop;
	in->log = config->log;
	in->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	in->peers.loop = config->loop;
	in->peers.ingest = config->ingest;
	in->peers.info = config->info;
	in->peers.watches = &in->watches;
	in->peers.rings = &in->rings;
	in->rings.loop = config->loop;
	in->rings.ingest = config->ingest;
	in->rings.info = config->info;
	in->rings.sited = config->sited;
	in->rings.data = config->data;
	in->peers.dump = config->dump;
	in->peers.data = config->data;
	r = watch_set_init(&in->watches, config->loop, config->ingest);
	if (r == 0)
		r = ring_set_init(&in->rings);
	if (r == 0)
		r = peer_set_init(&in->peers);
	if (r < 0) {
		intake_free(in);
		return r;
	}
	*inp = in;
	return 0;
}

static void listener_free(struct listener *l)
{
	listener_deinit(l);
	free(l);
}

void intake_free(struct intake *in)
{
	if (!in)
		return;
	while (in->listeners) {
		struct listener *l = in->listeners;

		in->listeners = l->next;
		listener_free(l);
	}
	peer_set_deinit(&in->peers);
	ring_set_deinit(&in->rings);
	watch_set_deinit(&in->watches);
	if (in->reserve >= 0)
		close(in->reserve);
	free(in);
}

int intake_listen(struct intake *in, const char *path, struct textbuf *why)
{
	struct listener *l = malloc(sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	r = listener_init(l, &in->peers, &in->reserve, path, why);
	if (r < 0) {
		listener_free(l);
		return r;
	}
	l->next = in->listeners;
	in->listeners = l;
	log_line(in->log, LOG_LEVEL_INFO, "listening on %s", path);
	return 0;
}

unsigned intake_scan(struct intake *in)
{
	uint64_t before = in->watches.exits;

	/* The kernel knows of each pidfd whether its process has ended; the loop asks it for all of them. */
	loop_drain(in->loop);
	return (unsigned)(in->watches.exits - before);
}
