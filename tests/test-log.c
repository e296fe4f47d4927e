/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * test-log.c - tracker/log.c: the right bytes in the right order, and never a wait.
 *
 * The reader is always this program itself, so that a log that blocked would never come to an end.
 */
#include "tracker/log.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

static struct loop *loop;
static struct log *logger;
static int ends[2];  /* reader, writer */

static void setup(void)
{
	ck_assert_ptr_ne(signal(SIGPIPE, SIG_IGN), SIG_ERR);
	ck_assert_int_eq(unsetenv("JOURNAL_STREAM"), 0);
	ck_assert_int_eq(loop_new(&loop), 0);
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	ck_assert_int_eq(fcntl(ends[1], F_SETPIPE_SZ, 4096), 4096);
	ck_assert_int_eq(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
}

static void close_ends(void)
{
	for (int i = 0; i < 2; i++) {
		if (ends[i] >= 0)
			close(ends[i]);
		ends[i] = -1;
	}
}

static void teardown(void)
{
	log_free(logger);
	logger = NULL;
	loop_free(loop);
	close_ends();
}

static void open_log(enum log_level level)
{
	ck_assert_int_eq(log_new(&logger, loop, ends[1], level), 0);
}

/* Reads what is there now; returns its length. */
static size_t read_some(char *text, size_t size)
{
	ssize_t n = read(ends[0], text, size);

	ck_assert(n >= 0 || errno == EAGAIN);
	return n > 0 ? (size_t)n : 0;
}

static void expect(const char *text)
{
	char got[8192];
	size_t len = read_some(got, sizeof(got) - 1);

	got[len] = '\0';
	ck_assert_str_eq(got, text);
}

/* ---- the loop, until something is so ---- */

static bool (*is_so)(void);

static void look(struct loop_hook *h)
{
	if (is_so())
		loop_stop(loop, 0);
}

static bool again(struct loop_work *w)
{
	return true;
}

static void run_until(bool (*condition)(void))
{
	static struct loop_hook hook = { .turn = look };
	struct loop_work busy = { .step = again };

	is_so = condition;
	loop_hook_add(loop, &hook);
	loop_work_add(loop, &busy);
	ck_assert_int_eq(loop_run(loop), 0);
	loop_work_cancel(loop, &busy);
}

/* What was read so far by the condition below. */
static char *received;
static size_t received_len, received_size;

static void receive(void)
{
	if (received_size - received_len < 65536) {
		received_size = received_size ? received_size * 2 : 1 << 20;
		received = realloc(received, received_size);
		ck_assert_ptr_nonnull(received);
	}
	received_len += read_some(received + received_len, 65536);
}

static bool all_is_received(void)
{
	size_t before = received_len;

	receive();
	return received_len == before && log_flushed(logger);
}

static void forget_received(void)
{
	free(received);
	received = NULL;
	received_len = received_size = 0;
}

static void fill_pipe(void)
{
	char full[4096];

	memset(full, '#', sizeof(full));
	ck_assert_int_eq(write(ends[1], full, sizeof(full)), sizeof(full));
}

/* ---- lines ---- */

START_TEST(test_lines)
{
	open_log(LOG_LEVEL_INFO);
	log_line(logger, LOG_LEVEL_INFO, "%d buffers", 3);
	expect("ttallocd: 3 buffers\n");
	log_line(logger, LOG_LEVEL_WARNING, "w");
	log_line(logger, LOG_LEVEL_ERROR, "e");
	log_line(logger, LOG_LEVEL_DEBUG, "not told");
	expect("ttallocd: warning: w\nttallocd: error: e\n");
	log_set_level(logger, LOG_LEVEL_DEBUG);
	ck_assert_int_eq(log_level(logger), LOG_LEVEL_DEBUG);
	log_line(logger, LOG_LEVEL_DEBUG, "told");
	expect("ttallocd: debug: told\n");
	log_set_level(logger, LOG_LEVEL_ERROR);
	log_line(logger, LOG_LEVEL_WARNING, "not told");
	log_text(logger, "text\n", 5);
	expect("text\n");
	ck_assert(log_flushed(logger));
}
END_TEST

START_TEST(test_a_line_is_one_line)
{
	char longer[3000], expected[1100];

	open_log(LOG_LEVEL_INFO);
	log_line(logger, LOG_LEVEL_INFO, "a\nb\tc\033[2J\x7f");
	expect("ttallocd: a?b?c?[2J?\n");
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	log_line(logger, LOG_LEVEL_INFO, "%s", longer);
	snprintf(expected, sizeof(expected), "ttallocd: %.1013s\n", longer);
	ck_assert_uint_eq(strlen(expected), 1024);
	expect(expected);
}
END_TEST

START_TEST(test_level_names)
{
	ck_assert_int_eq(log_level_parse("error"), LOG_LEVEL_ERROR);
	ck_assert_int_eq(log_level_parse("warning"), LOG_LEVEL_WARNING);
	ck_assert_int_eq(log_level_parse("info"), LOG_LEVEL_INFO);
	ck_assert_int_eq(log_level_parse("debug"), LOG_LEVEL_DEBUG);
	ck_assert_int_eq(log_level_parse("Info"), -1);
	ck_assert_int_eq(log_level_parse(""), -1);
	ck_assert_int_eq(log_level_parse("information"), -1);
}
END_TEST

START_TEST(test_journal)
{
	char stream[64];
	struct stat st;

	ck_assert_int_eq(fstat(ends[1], &st), 0);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	ck_assert_int_eq(setenv("JOURNAL_STREAM", stream, 1), 0);
	open_log(LOG_LEVEL_DEBUG);
	ck_assert_int_eq(unsetenv("JOURNAL_STREAM"), 0);
	for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++)
		log_line(logger, (enum log_level)level, "text");
	expect("<3>text\n<4>text\n<6>text\n<7>text\n");
}
END_TEST

START_TEST(test_journal_of_somebody_else)
{
	ck_assert_int_eq(setenv("JOURNAL_STREAM", "8:12345", 1), 0);
	open_log(LOG_LEVEL_INFO);
	ck_assert_int_eq(unsetenv("JOURNAL_STREAM"), 0);
	log_line(logger, LOG_LEVEL_INFO, "text");
	expect("ttallocd: text\n");
}
END_TEST

/* ---- readers that do not read ---- */

static unsigned dones;

static void count_done(struct log_wait *w)
{
	dones++;
}

static bool is_done(void)
{
	return dones > 0;
}

START_TEST(test_full_pipe)
{
	struct log_wait wait = { .done = count_done }, second = { .done = count_done };
	static char text[300000];

	dones = 0;
	open_log(LOG_LEVEL_INFO);
	log_when_flushed(logger, &wait);
	ck_assert_uint_eq(dones, 1);
	fill_pipe();
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + i * 7 % 26);
	text[sizeof(text) - 1] = '\n';
	log_text(logger, text, sizeof(text));
	log_line(logger, LOG_LEVEL_INFO, "last");
	ck_assert(!log_flushed(logger));
	log_when_flushed(logger, &wait);
	log_when_flushed(logger, &second);
	ck_assert_uint_eq(dones, 1);
	log_wait_cancel(logger, &second);
	log_wait_cancel(logger, &second);
	run_until(all_is_received);
	ck_assert_uint_eq(dones, 2);
	ck_assert_uint_eq(received_len, 4096 + sizeof(text) + strlen("ttallocd: last\n"));
	ck_assert_mem_eq(received + 4096, text, sizeof(text));
	ck_assert_mem_eq(received + 4096 + sizeof(text), "ttallocd: last\n", 15);
	forget_received();
}
END_TEST

START_TEST(test_flags_are_left_alone)
{
	int flags = fcntl(ends[1], F_GETFL);

	open_log(LOG_LEVEL_INFO);
	fill_pipe();
	log_line(logger, LOG_LEVEL_INFO, "waits");
	ck_assert_int_eq(flags & O_NONBLOCK, 0);
	ck_assert_int_eq(fcntl(ends[1], F_GETFL), flags);
}
END_TEST

/* Without a descriptor to open the pipe once more. */
START_TEST(test_full_pipe_that_cannot_be_opened_again)
{
	struct rlimit limit, tight;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	tight = limit;
	tight.rlim_cur = 0;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &tight), 0);
	open_log(LOG_LEVEL_INFO);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	fill_pipe();
	for (int i = 0; i < 1000; i++)
		log_line(logger, LOG_LEVEL_INFO, "%03d", i);
	run_until(all_is_received);
	ck_assert_uint_eq(received_len, 4096 + 1000 * strlen("ttallocd: 000\n"));
	ck_assert_mem_eq(received + 4096 + 14 * 999, "ttallocd: 999\n", 14);
	forget_received();
}
END_TEST

START_TEST(test_queue_is_bounded_and_tells_what_is_missing)
{
	static char lines[1 << 20];
	const char *confession = "ttallocd: warning: 32768 lines of this log are missing: nobody read it in time\n";

	for (size_t i = 0; i < sizeof(lines); i += 64) {
		memset(lines + i, 'x', 63);
		lines[i + 63] = '\n';
	}
	open_log(LOG_LEVEL_INFO);
	fill_pipe();
	for (int i = 0; i < 66; i++)
		log_text(logger, lines, sizeof(lines));
	run_until(all_is_received);
	log_line(logger, LOG_LEVEL_INFO, "last");
	receive();
	ck_assert_uint_eq(received_len, 4096 + LOG_QUEUE_MAX + strlen(confession) + strlen("ttallocd: last\n"));
	/* As soon as half of the queue is free. */
	received[received_len] = '\0';
	ck_assert_ptr_nonnull(strstr(received + 4096 + LOG_QUEUE_MAX, confession));
	ck_assert_str_eq(received + received_len - 15, "ttallocd: last\n");
	forget_received();
}
END_TEST

START_TEST(test_confession_starts_a_line)
{
	static char part[LOG_QUEUE_MAX / 2 + 1];

	memset(part, 'x', sizeof(part));
	open_log(LOG_LEVEL_INFO);
	fill_pipe();
	log_text(logger, part, sizeof(part));
	log_text(logger, part, sizeof(part));
	run_until(all_is_received);
	received[received_len] = '\0';
	ck_assert_str_eq(received + 4096 + LOG_QUEUE_MAX,
			 "\nttallocd: warning: 1 lines of this log are missing: nobody read it in time\n");
	forget_received();
}
END_TEST

START_TEST(test_waiting_for_a_stuck_reader_ends)
{
	struct log_wait wait = { .done = count_done };

	dones = 0;
	open_log(LOG_LEVEL_INFO);
	fill_pipe();
	log_line(logger, LOG_LEVEL_INFO, "nobody reads this");
	log_when_flushed(logger, &wait);
	ck_assert_uint_eq(dones, 0);
	run_until(is_done);
	ck_assert_uint_eq(dones, 1);
	ck_assert(!log_flushed(logger));
}
END_TEST

static bool is_flushed(void)
{
	return log_flushed(logger);
}

START_TEST(test_reader_is_gone)
{
	struct log_wait wait = { .done = count_done };

	dones = 0;
	open_log(LOG_LEVEL_INFO);
	fill_pipe();
	log_line(logger, LOG_LEVEL_INFO, "waits");
	log_when_flushed(logger, &wait);
	close(ends[0]);
	ends[0] = -1;
	run_until(is_flushed);
	ck_assert_uint_eq(dones, 1);
	log_line(logger, LOG_LEVEL_INFO, "into the void");
	ck_assert(log_flushed(logger));
}
END_TEST

/* ---- other kinds of standard error ---- */

START_TEST(test_socket)
{
	size_t queued;

	close_ends();
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	ck_assert_int_eq(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	open_log(LOG_LEVEL_INFO);
	for (queued = 0; log_flushed(logger); queued++)
		log_line(logger, LOG_LEVEL_INFO, "%06zu", queued);
	log_line(logger, LOG_LEVEL_INFO, "%06zu", queued++);
	run_until(all_is_received);
	ck_assert_uint_eq(received_len, queued * strlen("ttallocd: 000000\n"));
	received[received_len] = '\0';
	for (size_t i = 0; i < queued; i++) {
		char line[32];

		snprintf(line, sizeof(line), "ttallocd: %06zu\n", i);
		ck_assert_mem_eq(received + i * strlen(line), line, strlen(line));
	}
	ck_assert_int_eq(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
	forget_received();
}
END_TEST

START_TEST(test_regular_file)
{
	static char text[200000];
	char path[] = "/tmp/test-log-XXXXXX";
	struct stat st;

	close_ends();
	ends[1] = mkstemp(path);
	ck_assert_int_ge(ends[1], 0);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(write(ends[1], "before\n", 7), 7);
	open_log(LOG_LEVEL_INFO);
	memset(text, 'x', sizeof(text));
	log_text(logger, text, sizeof(text));
	ck_assert(log_flushed(logger));
	ck_assert_int_eq(fstat(ends[1], &st), 0);
	ck_assert_int_eq(st.st_size, 7 + (off_t)sizeof(text));
}
END_TEST

/* What comes out of a terminal takes its way through a kernel thread, so it is waited for. */
static void expect_from_terminal(int master, const char *expected)
{
	struct pollfd p = { .fd = master, .events = POLLIN };
	size_t want = strlen(expected), len = 0;
	char got[64];

	ck_assert_uint_le(want, sizeof(got));
	while (len < want) {
		ck_assert_int_eq(poll(&p, 1, -1), 1);
		ssize_t n = read(master, got + len, want - len);
		ck_assert_int_gt(n, 0);
		len += (size_t)n;
	}
	ck_assert_mem_eq(got, expected, want);
}

START_TEST(test_terminal_that_is_stopped)
{
	int master, slave;

	master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
		return;  /* no pseudo-terminals here */
	slave = open(ptsname(master), O_WRONLY | O_NOCTTY | O_CLOEXEC);
	ck_assert_int_ge(slave, 0);
	ck_assert_int_eq(log_new(&logger, loop, slave, LOG_LEVEL_INFO), 0);
	log_line(logger, LOG_LEVEL_INFO, "shown");
	expect_from_terminal(master, "ttallocd: shown\r\n");
	ck_assert_int_eq(tcflow(slave, TCOOFF), 0);  /* as Ctrl-S does */
	log_line(logger, LOG_LEVEL_INFO, "waits");
	ck_assert(!log_flushed(logger));
	ck_assert_int_eq(tcflow(slave, TCOON), 0);
	run_until(is_flushed);
	expect_from_terminal(master, "ttallocd: waits\r\n");
	close(slave);
	close(master);
}
END_TEST

START_TEST(test_bad_descriptor)
{
	ck_assert_int_eq(log_new(&logger, loop, -1, LOG_LEVEL_INFO), -EBADF);
	ck_assert_ptr_null(logger);
	log_free(NULL);
}
END_TEST

/* What was queued goes out at the end, as far as somebody takes it. */
START_TEST(test_free_writes_the_rest)
{
	char full[4096];

	open_log(LOG_LEVEL_INFO);
	fill_pipe();
	log_line(logger, LOG_LEVEL_INFO, "rest");
	ck_assert_uint_eq(read_some(full, sizeof(full)), sizeof(full));
	log_free(logger);
	logger = NULL;
	expect("ttallocd: rest\n");
}
END_TEST

static Suite *log_suite(void)
{
	Suite *s = suite_create("log");
	TCase *t = tcase_create("log");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, test_lines);
	tcase_add_test(t, test_a_line_is_one_line);
	tcase_add_test(t, test_level_names);
	tcase_add_test(t, test_journal);
	tcase_add_test(t, test_journal_of_somebody_else);
	tcase_add_test(t, test_full_pipe);
	tcase_add_test(t, test_flags_are_left_alone);
	tcase_add_test(t, test_full_pipe_that_cannot_be_opened_again);
	tcase_add_test(t, test_queue_is_bounded_and_tells_what_is_missing);
	tcase_add_test(t, test_confession_starts_a_line);
	tcase_add_test(t, test_waiting_for_a_stuck_reader_ends);
	tcase_add_test(t, test_reader_is_gone);
	tcase_add_test(t, test_socket);
	tcase_add_test(t, test_regular_file);
	tcase_add_test(t, test_terminal_that_is_stopped);
	tcase_add_test(t, test_bad_descriptor);
	tcase_add_test(t, test_free_writes_the_rest);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	SRunner *runner = srunner_create(log_suite());
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
