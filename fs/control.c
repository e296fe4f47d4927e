/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * control.c - does what was written to a ctl file; the contract is in control.h.
 *
 * A command is a function that does one bounded step per call: its state is in the operation and is zero at its first
 * call. It returns 1 = call again (with op->waiting: when the log has woken it), 0 = done, -errno = refused with the
 * reason in `why` (nothing there: out of memory).
 */
#include "fs/control.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tracker/symbols.h"

#define STEP_NS UINT64_C(150000)      /* no further step is begun in a turn after this time */
#define CLIENT_DUMP_NS UINT64_C(2000000)  /* of a dump that a client asked for, made at once */
#define STEP_CHUNKS 64                /* of the registry, in one step: some 1000 buffers to forget */
#define STEP_NAMES 2000               /* comparisons of a name with a pattern */
#define STEP_TEXT (UINT64_C(48) << 10)
#define QUEUE_MAX 1024                /* writes that wait at a time */
#define DEVICE_DIRS_MAX 16

struct operation {
	struct operation *next;
	struct control_write *write;  /* NULL: nobody waits */
	enum control_reason reason;   /* when nobody waits */
	pid_t caller;
	uint32_t file_process;        /* of pids/<pid>/ctl: slot, */
	uint32_t file_serial;         /* and serial */
	size_t len;
	unsigned n, at;               /* commands, and the one that is being executed */
	/* Of the current command. */
	bool begun;
	bool waiting;
	uint64_t pos;
	uint64_t names;               /* position among the names that suppressions may mean, */
	bool named;                   /* and whether that is at its end */
	uint64_t removed;
	uint32_t process, serial;
	struct dump *dump;
	struct view view;
	struct view_cursor cursor;
	struct ctl_command command[];
};

struct control {
	struct control_config config;
	struct intake *intake;
	void (*forget)(void *data, const uint64_t *numbers, unsigned n);
	void *forget_data;
	struct loop_work work;
	struct log_wait log_wait;
	bool log_stuck;         /* nobody reads the log: it is not waited for until it has moved */
	struct operation *first;
	struct operation **last;
	unsigned queued;
	struct textbuf why;
	struct textbuf text;
	struct ctl_command parsed[CTL_COMMANDS_MAX];
	uint64_t client_again;  /* when a client's dump may be made at once again (CLOCK_MONOTONIC) */
};

typedef int (*command_step)(struct control *c, struct operation *op, const struct ctl_command *command);

static struct registry *registry(const struct control *c)
{
	return c->config.state->registry;
}

static void note(struct control *c, enum trace_kind kind, uint16_t device, int32_t pid)
{
	ingest_note(c->config.state, kind, device, pid, 0, loop_now());
}

/* ---- dump ---- */

static void log_taken(struct log_wait *w)
{
	struct control *c = loop_owner(w, struct control, log_wait);

	c->first->waiting = false;
	c->log_stuck = !log_flushed(c->config.log);
	loop_work_add(c->config.loop, &c->work);
}

/* The log takes a long report only as fast as it is read; a log that nobody reads is not waited for again. */
static void wait_for_log(struct control *c, struct operation *op)
{
	if (log_flushed(c->config.log))
		c->log_stuck = false;
	else if (!c->log_stuck) {
		op->waiting = true;
		log_when_flushed(c->config.log, &c->log_wait);
	}
}

static int dump_begin(struct control *c, struct operation *op, const char *name)
{
	op->view = *c->config.view;
	op->view.now = loop_now();
	op->dump = dumps_begin(c->config.dumps, name, op->view.now);
	return op->dump ? 1 : -ENOMEM;
}

static int dump_piece(struct control *c, struct operation *op)
{
	const struct view_key none = { 0 };

	textbuf_clear(&c->text);
	int more = view_dump(&op->view, &none, &op->cursor, STEP_TEXT, &c->text);
	int r = more < 0 ? more : textbuf_error(&c->text);
	if (r == 0)
		r = dumps_append(c->config.dumps, op->dump, c->text.data, c->text.len);
	if (r < 0)
		return r;
	log_text(c->config.log, c->text.data, c->text.len);
	wait_for_log(c, op);
	return more;
}

static void dump_end(struct control *c, struct operation *op)
{
	view_table_end(&op->cursor);
	dumps_release(c->config.dumps, op->dump);
	op->dump = NULL;
}

/* The report is listed when its last line is written, and the command is done when the log has taken it, too. */
static int command_dump(struct control *c, struct operation *op, const struct ctl_command *command)
{
	int r;

	if (!op->begun)
		return dump_begin(c, op, command->name);
	if (!op->dump)
		return 0;
	r = dump_piece(c, op);
	if (r > 0)
		return r;
	if (r == 0) {
		dumps_finish(c->config.dumps, op->dump);
		note(c, TRACE_DUMP, TRACE_NO_DEVICE, 0);
	}
	dump_end(c, op);
	return r == 0 && op->waiting ? 1 : r;
}

/* ---- mark ---- */

static int command_mark(struct control *c, struct operation *op, const struct ctl_command *command)
{
	int r = registry_mark(registry(c), command->name, strlen(command->name), loop_now());

	if (r < 0) {
		textbuf_printf(&c->why, "mark: there are %d already", MARKS_MAX);
		return r;
	}
	note(c, TRACE_MARK, TRACE_NO_DEVICE, op->caller);
	return 0;
}

static int command_unmark(struct control *c, struct operation *op, const struct ctl_command *command)
{
	int r = registry_unmark(registry(c), command->name);

	if (r < 0)
		textbuf_printf(&c->why, "unmark: no such mark: %s", command->name);
	return r;
}

/* ---- clear, scan, suppress ---- */

static int command_clear(struct control *c, struct operation *op, const struct ctl_command *command)
{
	registry_clear(registry(c), loop_now());
	note(c, TRACE_CLEAR, TRACE_NO_DEVICE, 0);
	return 0;
}

static const char *frame_name(const void *data, uint32_t module, uint64_t offset)
{
	return data ? symbols_name(data, module, offset) : NULL;
}

/* 1 = there is more to do. */
static int suppress_names(struct control *c, struct operation *op)
{
	if (!op->named && registry_suppress_step(registry(c), frame_name, c->config.view->symbols, &op->names, STEP_NAMES))
		return 1;
	op->named = true;
	return 0;
}

/* The names of functions that have become known since the last time count from here on, too. */
static int command_scan(struct control *c, struct operation *op, const struct ctl_command *command)
{
	if (!op->begun && c->intake)
		intake_scan(c->intake);
	if (suppress_names(c, op) || registry_judge_step(registry(c), loop_now(), &op->pos, STEP_CHUNKS))
		return 1;
	note(c, TRACE_SCAN, TRACE_NO_DEVICE, 0);
	return 0;
}

static int command_suppress(struct control *c, struct operation *op, const struct ctl_command *command)
{
	return suppress_names(c, op) || registry_excuse_step(registry(c), &op->pos, STEP_CHUNKS);
}

/* ---- clean ---- */

/* The process that a `clean` is about, if it may be cleaned. */
static int clean_begin(struct control *c, struct operation *op, const struct ctl_command *command)
{
	uint32_t slot = op->file_process;

	if (slot == PROCESS_NONE)
		slot = registry_process_find(registry(c), (int32_t)command->number);
	const struct process *p = slot == PROCESS_NONE ? NULL : registry_process(registry(c), slot);
	if (!p || (op->file_process != PROCESS_NONE && p->serial != op->file_serial)) {
		textbuf_puts(&c->why, "clean: no such process");
		if (command->number)
			textbuf_printf(&c->why, ": %" PRIu32, command->number);
		return -ESRCH;
	}
	if (!p->ended && !command->force) {
		textbuf_printf(&c->why, "clean: process %" PRId32 " is alive (clean %" PRId32 " force does it)", p->pid,
			       p->pid);
		return -EBUSY;
	}
	op->process = slot;
	op->serial = p->serial;
	return 1;
}

static int command_clean(struct control *c, struct operation *op, const struct ctl_command *command)
{
	const struct process *p;

	if (!op->begun)
		return clean_begin(c, op, command);
	p = registry_process(registry(c), op->process);
	if (!p || p->serial != op->serial)
		return 0;
	if (registry_clean_step(registry(c), op->process, &op->pos, STEP_CHUNKS, &op->removed))
		return 1;
	note(c, TRACE_CLEAN, TRACE_NO_DEVICE, p->pid);
	return 0;
}

static int command_clean_dead(struct control *c, struct operation *op, const struct ctl_command *command)
{
	if (registry_clean_step(registry(c), PROCESS_NONE, &op->pos, STEP_CHUNKS, &op->removed))
		return 1;
	note(c, TRACE_CLEAN, TRACE_NO_DEVICE, 0);
	return 0;
}

/* ---- reset ---- */

static void forget_device(struct control *c, const uint64_t *numbers, unsigned n)
{
	if (c->forget && n)
		c->forget(c->forget_data, numbers, n);
}

static int command_reset_device(struct control *c, struct operation *op, const struct ctl_command *command)
{
	uint64_t dirs[DEVICE_DIRS_MAX];
	unsigned n = tree_device_dirs(c->config.tree, command->number, dirs, DEVICE_DIRS_MAX);

	if (!op->begun && !registry_device(registry(c), command->number)) {
		textbuf_printf(&c->why, "reset: no such device: %" PRIu32, command->number);
		return -ENODEV;
	}
	if (registry_reset_device_step(registry(c), command->number, &op->pos, STEP_CHUNKS, &op->removed))
		return 1;
	forget_device(c, dirs, n);
	note(c, TRACE_RESET, (uint16_t)command->number, 0);
	return 0;
}

static void reset_server(struct control *c)
{
	struct server_info *s = c->config.server;
	struct errlog *e = c->config.state->errlog;

	*e = (struct errlog){ .version = e->version + 1 };
	s->malformed_senders = 0;
	s->refused_clients = 0;
	s->fs_requests = 0;
	s->ctl_commands = 0;
	s->ctl_refused = 0;
	loop_turns_reset(c->config.loop);
}

static int command_reset(struct control *c, struct operation *op, const struct ctl_command *command)
{
	uint64_t dirs[DEVICE_DIRS_MAX];

	for (unsigned id = 0; id < DEVICE_MAX; id++)
		forget_device(c, dirs, tree_device_dirs(c->config.tree, id, dirs, DEVICE_DIRS_MAX));
	registry_reset(registry(c));
	trace_clear(c->config.state->trace);
	dumps_clear(c->config.dumps);
	reset_server(c);
	note(c, TRACE_RESET, TRACE_NO_DEVICE, 0);
	return 0;
}

static int command_reset_peaks(struct control *c, struct operation *op, const struct ctl_command *command)
{
	registry_reset_peaks(registry(c));
	loop_turns_reset_max(c->config.loop);
	note(c, TRACE_RESET, TRACE_NO_DEVICE, 0);
	return 0;
}

static int command_reset_history(struct control *c, struct operation *op, const struct ctl_command *command)
{
	if (registry_reset_history_step(registry(c), &op->pos, STEP_CHUNKS))
		return 1;
	dumps_clear(c->config.dumps);
	note(c, TRACE_RESET, TRACE_NO_DEVICE, 0);
	return 0;
}

static int command_log(struct control *c, struct operation *op, const struct ctl_command *command)
{
	log_set_level(c->config.log, (enum log_level)command->number);
	return 0;
}

static const command_step command_steps[] = {
	[CTL_DUMP] = command_dump,
	[CTL_CLEAR] = command_clear,
	[CTL_MARK] = command_mark,
	[CTL_UNMARK] = command_unmark,
	[CTL_SCAN] = command_scan,
	[CTL_CLEAN_DEAD] = command_clean_dead,
	[CTL_CLEAN] = command_clean,
	[CTL_RESET] = command_reset,
	[CTL_RESET_DEVICE] = command_reset_device,
	[CTL_RESET_PEAKS] = command_reset_peaks,
	[CTL_RESET_HISTORY] = command_reset_history,
	[CTL_LOG] = command_log,
	[CTL_SUPPRESS] = command_suppress,
};

/* ---- the queue ---- */

/* Why something was refused, in words, where the writer finds it before it learns the errno. */
static void refuse(struct control *c, const char *file, pid_t caller, unsigned line)
{
	struct errlog *e = c->config.state->errlog;
	int len = (int)c->why.len;
	const char *why = len ? c->why.data : "out of memory";

	c->config.server->ctl_refused++;
	if (!len)
		len = (int)strlen(why);
	if (line)
		errlog_add(e, loop_now(), "%s: pid %d: line %u: %.*s", file, (int)caller, line, len, why);
	else
		errlog_add(e, loop_now(), "%s: pid %d: %.*s", file, (int)caller, len, why);
}

static void enqueue(struct control *c, struct operation *op)
{
	*c->last = op;
	c->last = &op->next;
	c->queued++;
	loop_work_add(c->config.loop, &c->work);
}

/* The operation in front is over. */
static void finish(struct control *c, ssize_t result)
{
	struct operation *op = c->first;

	c->first = op->next;
	if (!c->first)
		c->last = &c->first;
	c->queued--;
	if (op->write)
		op->write->done(op->write, result);
	free(op);
}

static void next_command(struct operation *op)
{
	op->at++;
	op->begun = false;
	op->waiting = false;
	op->pos = op->names = 0;
	op->named = false;
	op->removed = 0;
	op->cursor = (struct view_cursor){ 0 };
}

/* One step of the operation in front. */
static void step(struct control *c)
{
	struct operation *op = c->first;
	const struct ctl_command *command = &op->command[op->at];
	int r;

	textbuf_clear(&c->why);
	r = command_steps[command->kind](c, op, command);
	op->begun = true;
	if (r > 0)
		return;
	if (r < 0) {
		refuse(c, "ctl", op->caller, command->line);
		finish(c, op->at ? (ssize_t)command->start : r);
		return;
	}
	c->config.server->ctl_commands++;
	next_command(op);
	if (op->at == op->n)
		finish(c, (ssize_t)op->len);
}

static void run_until(struct control *c, uint64_t until)
{
	while (c->first && !c->first->waiting) {
		step(c);
		if (loop_monotonic() >= until)
			break;
	}
}

static bool work(struct loop_work *w)
{
	struct control *c = loop_owner(w, struct control, work);

	run_until(c, loop_monotonic() + STEP_NS);
	return c->first && !c->first->waiting;
}

/* A client that asked for a dump finds it in dumps/ at its next look, if it is not too long and clients do not keep
 * asking: no more than a third of the time is spent so. */
static void run_for_client(struct control *c)
{
	uint64_t begin = loop_monotonic();

	if (begin < c->client_again)
		return;
	run_until(c, begin + CLIENT_DUMP_NS);
	c->client_again = 3 * loop_monotonic() - 2 * begin;
}

/* ---- what the others call ---- */

int control_new(struct control **cp, const struct control_config *config)
{
	struct control *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->config = *config;
	c->work.step = work;
	c->log_wait.done = log_taken;
	c->last = &c->first;
	*cp = c;
	return 0;
}

void control_free(struct control *c)
{
	if (!c)
		return;
	control_stop(c);
	textbuf_deinit(&c->why);
	textbuf_deinit(&c->text);
	free(c);
}

void control_set_intake(struct control *c, struct intake *in)
{
	c->intake = in;
}

void control_set_forget(struct control *c, void (*forget)(void *data, const uint64_t *numbers, unsigned n), void *data)
{
	c->forget = forget;
	c->forget_data = data;
}

static struct operation *operation_new(const struct ctl_command *commands, unsigned n)
{
	struct operation *op = calloc(1, sizeof(*op) + n * sizeof(op->command[0]));

	if (!op)
		return NULL;
	memcpy(op->command, commands, n * sizeof(op->command[0]));
	op->n = n;
	op->file_process = PROCESS_NONE;
	return op;
}

/* Parses and queues; 1 = queued, 0 = there was nothing to do, -errno = refused. */
static int submit(struct control *c, struct control_write *w, const struct place *file, pid_t caller, const char *text,
		  size_t len)
{
	struct operation *op;
	size_t n;
	int r = ctl_parse(file->node->scope, text, len, c->parsed, CTL_COMMANDS_MAX, &n, &c->why);

	if (r < 0)
		return r;
	if (!n)
		return 0;
	if (c->queued >= QUEUE_MAX) {
		textbuf_puts(&c->why, "too many commands are waiting");
		return -EAGAIN;
	}
	op = operation_new(c->parsed, (unsigned)n);
	if (!op)
		return -ENOMEM;
	op->write = w;
	op->caller = caller;
	op->len = len;
	if (file->node->scope == CTL_SCOPE_PID) {
		op->file_process = file->inode.process;
		op->file_serial = file->inode.serial;
	}
	enqueue(c, op);
	return 1;
}

void control_write(struct control *c, struct control_write *w, const struct place *file, pid_t caller,
		   const char *text, size_t len)
{
	int r;

	textbuf_clear(&c->why);
	r = submit(c, w, file, caller, text, len);
	if (r < 0)
		refuse(c, "ctl", caller, 0);
	if (r <= 0)
		w->done(w, r < 0 ? r : (ssize_t)len);
}

ssize_t control_option(struct control *c, const struct place *file, pid_t caller, const char *text, size_t len)
{
	const struct node_option *option = file->node->option;
	uint64_t value;
	int r;

	textbuf_clear(&c->why);
	r = option_parse(text, len, option->min, option->limit(c->config.view), &value, &c->why);
	if (r == 0)
		r = option->set(c->config.state, c->config.server, value);
	if (r < 0) {
		refuse(c, file->node->path, caller, 0);
		return r;
	}
	registry_touch(registry(c));
	c->config.server->ctl_commands++;
	return (ssize_t)len;
}

/* The text that the file will hold, in c->text. 0 or -errno. */
static int list_text(struct control *c, const struct place *file, const char *text, size_t len, uint64_t offset,
		     bool append)
{
	struct textbuf *t = &c->text;

	textbuf_clear(t);
	if (append || offset)
		(void)file->node->show(c->config.view, &file->key, t);
	if (append && t->len && t->data[t->len - 1] != '\n')
		textbuf_putc(t, '\n');
	if (!append && offset != t->len) {
		textbuf_puts(&c->why, "a write is at the beginning or at the end");
		return -EINVAL;
	}
	textbuf_put(t, text, len);
	return textbuf_error(t);
}

/* 0 = taken over, and what follows from it is queued. */
static int list_submit(struct control *c, struct control_write *w, const struct place *file, const char *text,
		       size_t len, uint64_t offset, bool append)
{
	const struct ctl_command apply = { .kind = CTL_SUPPRESS };
	struct operation *op;
	int r;

	if (c->queued >= QUEUE_MAX) {
		textbuf_puts(&c->why, "too many commands are waiting");
		return -EAGAIN;
	}
	r = list_text(c, file, text, len, offset, append);
	if (r < 0)
		return r;
	op = operation_new(&apply, 1);
	if (!op)
		return -ENOMEM;
	r = file->node->set(c->config.state, c->text.data, c->text.len, &c->why);
	if (r < 0) {
		free(op);
		return r;
	}
	op->write = w;
	op->len = len;
	enqueue(c, op);
	return 0;
}

void control_list(struct control *c, struct control_write *w, const struct place *file, pid_t caller,
		  const char *text, size_t len, uint64_t offset, bool append)
{
	int r;

	textbuf_clear(&c->why);
	r = list_submit(c, w, file, text, len, offset, append);
	if (r < 0) {
		refuse(c, file->node->path, caller, 0);
		w->done(w, r);
	}
}

void control_dump(struct control *c, enum control_reason reason)
{
	const struct ctl_command dump = { .kind = CTL_DUMP };

	for (const struct operation *op = c->first; op; op = op->next)
		if (!op->write && op->reason == reason && !op->begun)
			return;
	struct operation *op = operation_new(&dump, 1);
	if (!op) {
		log_line(c->config.log, LOG_LEVEL_ERROR, "dump: out of memory");
		return;
	}
	op->reason = reason;
	enqueue(c, op);
	if (reason == CONTROL_CLIENT)
		run_for_client(c);
}

void control_stop(struct control *c)
{
	loop_work_cancel(c->config.loop, &c->work);
	log_wait_cancel(c->config.log, &c->log_wait);
	while (c->first) {
		dump_end(c, c->first);
		finish(c, -EINTR);
	}
}
