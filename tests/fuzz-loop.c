/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * fuzz-loop.c - connections, decoder, booking and loop together against any clients. The input is a script for up to
 * eight clients on socketpairs: connect, send any bytes or well-formed messages in any cut, stop sending, close, read
 * or do not read answers, and when the loop gets to run. Checked after every drain and at the end:
 *
 *   - the totals of the devices and of the process equal the sum of the live buffers, and so do their counts;
 *   - connections are counted right, and answers come only to who has asked;
 *   - when all clients are gone nothing is left open, neither in the loop nor as a descriptor.
 */
#include "tracker/peer.h"
#include "tracker/watch.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/ttalloc-proto.h"
#include "tracker/registry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CLIENTS 8
#define SCRIPT_MAX 4096
#define REQUIRE(condition) require(condition, #condition, __LINE__)

/* What one byte of the script tells: who (3 bits), what (3 bits), in which dialect (2 bits). */
enum step {
	STEP_CONNECT,
	STEP_RAW,       /* + length, bytes */
	STEP_MESSAGES,  /* + count, and for each: type, device and buffer type, address, size */
	STEP_CUT,       /* + where, and a message as above that is sent in two pieces */
	STEP_CLOSE,
	STEP_SHUTDOWN,
	STEP_DRAIN,
	STEP_READ,
};

struct script {
	const uint8_t *at;
	const uint8_t *end;
};

struct world {
	struct registry_config config;
	void *arena;
	struct registry *registry;
	struct trace trace;
	struct errlog errlog;
	struct ingest ingest;
	struct server_info info;
	struct loop *loop;
	struct watch_set watches;
	struct ring_set rings;
	struct peer_set peers;
	int client[CLIENTS];     /* -1: not connected */
	unsigned dumps;
};

static const unsigned dialects[] = { 72, 112, 128, 144 };

static void require(bool condition, const char *text, int line)
{
	if (condition)
		return;
	fprintf(stderr, "fuzz-loop.c:%d: not true: %s\n", line, text);
	abort();
}

static void on_dump(void *data)
{
	struct world *w = data;

	w->dumps++;
}

/* ---- the world ---- */

static void world_open(struct world *w)
{
	memset(w, 0, sizeof(*w));
	w->config = (struct registry_config){
		.seed = 1, .max_buffers = 256, .history_events = 512, .history_per_buffer = 8, .max_processes = 64,
	};
	w->arena = mmap(NULL, registry_arena_size(&w->config), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	REQUIRE(w->arena != MAP_FAILED);
	REQUIRE(registry_new(&w->registry, &w->config, w->arena) == 0);
	REQUIRE(trace_init(&w->trace, TRACE_EVENTS_MIN) == 0);
	REQUIRE(loop_new(&w->loop) == 0);
	w->ingest = (struct ingest){ .registry = w->registry, .trace = &w->trace, .errlog = &w->errlog };
	REQUIRE(watch_set_init(&w->watches, w->loop, &w->ingest) == 0);
	w->peers.loop = w->loop;
	w->peers.ingest = &w->ingest;
	w->peers.info = &w->info;
	w->peers.watches = &w->watches;
	w->peers.dump = on_dump;
	w->peers.data = w;
	w->rings = (struct ring_set){ .loop = w->loop, .ingest = &w->ingest, .info = &w->info };
	REQUIRE(ring_set_init(&w->rings) == 0);
	w->peers.rings = &w->rings;
	REQUIRE(peer_set_init(&w->peers) == 0);
	for (int i = 0; i < CLIENTS; i++)
		w->client[i] = -1;
}

static void world_close(struct world *w)
{
	peer_set_deinit(&w->peers);
	ring_set_deinit(&w->rings);
	watch_set_deinit(&w->watches);
	loop_free(w->loop);
	trace_deinit(&w->trace);
	registry_free(w->registry);
	munmap(w->arena, registry_arena_size(&w->config));
}

/* ---- what must be so ---- */

static void check_totals(const struct world *w)
{
	static struct totals listed[DEVICE_MAX][BUFFER_TYPES];
	struct totals all = { 0 };
	unsigned budget = 1000000;
	uint64_t pos = 0;
	struct buffer b;

	for (int id = -1; (id = registry_device_next(w->registry, (unsigned)(id + 1))) >= 0;)
		memset(listed[id], 0, sizeof(listed[id]));
	while (registry_next(w->registry, &BUFFER_FILTER_ALL, &pos, &budget, &b) == 1) {
		listed[b.device][b.type].count++;
		listed[b.device][b.type].bytes += b.size;
		all.count++;
		all.bytes += b.size;
	}
	for (int id = -1; (id = registry_device_next(w->registry, (unsigned)(id + 1))) >= 0;) {
		const struct device *d = registry_device(w->registry, (unsigned)id);

		for (unsigned type = 0; type < BUFFER_TYPES; type++) {
			REQUIRE(d->type[type].count == listed[id][type].count);
			REQUIRE(d->type[type].bytes == listed[id][type].bytes);
			REQUIRE(d->type[type].allocs - d->type[type].frees == listed[id][type].count);
		}
	}
	REQUIRE(registry_totals(w->registry).count == all.count);
	REQUIRE(registry_totals(w->registry).bytes == all.bytes);
}

static void check_processes(const struct world *w)
{
	const struct counters *k = registry_counters(w->registry);
	uint64_t connections = 0, events = 0, buffers = 0;

	for (uint32_t s = 0; (s = registry_process_next(w->registry, s)) != PROCESS_NONE; s++) {
		const struct process *p = registry_process(w->registry, s);

		connections += p->connections;
		events += p->events;
		buffers += p->total.count;
	}
	REQUIRE(connections == w->info.clients);
	REQUIRE(events == k->events_total);
	REQUIRE(buffers == registry_totals(w->registry).count);
	REQUIRE(w->dumps == k->dumps_total);
}

static void drain(struct world *w)
{
	loop_drain(w->loop);
	check_totals(w);
	check_processes(w);
}

/* ---- the script ---- */

static uint8_t next(struct script *s)
{
	return s->at < s->end ? *s->at++ : 0;
}

static void send_some(const struct world *w, unsigned who, const uint8_t *data, size_t len)
{
	if (w->client[who] >= 0)
		(void)!send(w->client[who], data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void do_connect(struct world *w, unsigned who)
{
	int ends[2];

	if (w->client[who] >= 0)
		return;
	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
	w->client[who] = ends[0];
	REQUIRE(peer_new(&w->peers, ends[1]) == 0);
}

static void do_raw(const struct world *w, unsigned who, struct script *s)
{
	size_t len = next(s), left = (size_t)(s->end - s->at);

	if (len > left)
		len = left;
	send_some(w, who, s->at, len);
	s->at += len;
}

static void make_message(uint8_t *m, struct script *s)
{
	struct ttalloc_msg_head head = { .type = next(s) };
	uint8_t where = next(s);

	head.device_id = where >> 4;
	head.buffer_type = where & 7;
	head.process_id = where & 8 ? getpid() : 0;
	head.buffer_id = next(s);
	head.size = next(s);
	memset(m, 0, TTALLOC_MSG_MAX);
	memcpy(m, &head, sizeof(head));
}

static void do_messages(const struct world *w, unsigned who, unsigned dialect, struct script *s)
{
	uint8_t m[TTALLOC_MSG_MAX];

	for (unsigned n = next(s); n && s->at < s->end; n--) {
		make_message(m, s);
		send_some(w, who, m, dialect);
	}
}

static void do_cut(struct world *w, unsigned who, unsigned dialect, struct script *s)
{
	uint8_t m[TTALLOC_MSG_MAX];
	unsigned at = next(s) % dialect;

	make_message(m, s);
	send_some(w, who, m, at);
	drain(w);
	send_some(w, who, m + at, dialect - at);
}

static void do_close(struct world *w, unsigned who)
{
	if (w->client[who] >= 0)
		close(w->client[who]);
	w->client[who] = -1;
}

static void do_read(const struct world *w, unsigned who)
{
	uint8_t replies[4096];
	ssize_t n = w->client[who] < 0 ? 0 : recv(w->client[who], replies, sizeof(replies), MSG_DONTWAIT);

	REQUIRE(n <= 0 || registry_counters(w->registry)->queries_total > 0 ||
		replies[0] == TTALLOC_MSG_RING_RESPONSE);
}

static void do_step(struct world *w, struct script *s)
{
	uint8_t byte = next(s);
	unsigned who = byte & 7, dialect = dialects[byte >> 6];

	switch ((enum step)(byte >> 3 & 7)) {
	case STEP_CONNECT:
		do_connect(w, who);
		break;
	case STEP_RAW:
		do_raw(w, who, s);
		break;
	case STEP_MESSAGES:
		do_messages(w, who, dialect, s);
		break;
	case STEP_CUT:
		do_cut(w, who, dialect, s);
		break;
	case STEP_CLOSE:
		do_close(w, who);
		break;
	case STEP_SHUTDOWN:
		if (w->client[who] >= 0)
			(void)shutdown(w->client[who], SHUT_WR);
		break;
	case STEP_DRAIN:
		drain(w);
		break;
	case STEP_READ:
		do_read(w, who);
		break;
	}
}

static int free_descriptor(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	REQUIRE(fd >= 0);
	close(fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct script s = { data, data + size };
	static struct world w;
	int before = free_descriptor();

	if (size > SCRIPT_MAX)
		return 0;
	(void)signal(SIGPIPE, SIG_IGN);
	world_open(&w);
	while (s.at < s.end)
		do_step(&w, &s);
	for (unsigned who = 0; who < CLIENTS; who++)
		do_close(&w, who);
	drain(&w);
	drain(&w);
	REQUIRE(w.info.clients == 0);
	REQUIRE(w.peers.peers == NULL);
	world_close(&w);
	REQUIRE(free_descriptor() == before);
	return 0;
}
