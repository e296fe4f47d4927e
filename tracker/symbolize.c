/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * symbolize.c - ttalloc-symbolize: looks up the names of functions in executables; started by ttallocd.
 *
 * The files are what their users made them, and may lie on file systems that never answer. So every request gets a
 * child: with the rights of that user and no others, with bounds on time and memory, and with nothing open but the pipe
 * into which it writes one name after the other. However it ends, names that it wrote before are good, and the next
 * request finds nothing of it. A child that cannot even be killed is left behind; STUCK_MAX of those, and requests are
 * refused until one of them is gone.
 *
 * Ends when its socket is closed. Speaks to nobody else: no network, no debuginfod.
 */
#include <elf.h>
#include <elfutils/libdwfl.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libiberty/demangle.h>
#include <limits.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tracker/symbolize.h"

#define CPU_SECONDS_MAX 10
#define MEMORY_MAX (UINT64_C(2) << 30)
#define FILES_MAX 32
#define NICE 10
#define STUCK_MAX 8
#define KILLED_MS 1000  /* how long a killed child may take to be gone */

enum { SERVER = STDIN_FILENO, ANSWER = STDERR_FILENO + 1 };

/* ---- in the child: one file, its names ---- */

static bool limit(__rlimit_resource_t what, rlim_t soft, rlim_t hard)
{
	return setrlimit(what, &(struct rlimit){ soft, hard }) == 0;
}

/* Becomes the user, for good. */
static bool drop(const struct symbolize_request *q)
{
	uid_t real, effective, saved;

	if (geteuid() == 0 &&
	    (setgroups(0, NULL) < 0 || setresgid(q->gid, q->gid, q->gid) < 0 || setresuid(q->uid, q->uid, q->uid) < 0))
		return false;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return false;
	return getresuid(&real, &effective, &saved) == 0 && real == effective && real == saved;
}

static bool confine(const struct symbolize_request *q)
{
	rlim_t seconds = (q->limit_ms + 999) / 1000;

	if (seconds > CPU_SECONDS_MAX)
		seconds = CPU_SECONDS_MAX;
#ifndef __SANITIZE_ADDRESS__  /* which reserves terabytes */
	if (!limit(RLIMIT_AS, MEMORY_MAX, MEMORY_MAX))
		return false;
#endif
	return limit(RLIMIT_CPU, seconds, seconds + 1) && limit(RLIMIT_CORE, 0, 0) && limit(RLIMIT_FSIZE, 0, 0) &&
	       limit(RLIMIT_NOFILE, FILES_MAX, FILES_MAX) && limit(RLIMIT_NPROC, 0, 0);
}

/* Where the path begins: the root directory of the process, as long as that is there and its user's. */
static int open_root(int32_t pid)
{
	char path[32];
	int fd = -1;

	if (pid > 0) {
		snprintf(path, sizeof(path), "/proc/%d/root", pid);
		fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	return fd >= 0 ? fd : open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* A regular file, for reading. Nothing else is ever opened: what a pipe or a device does then is its own affair. */
static int open_file(const struct symbolize_request *q)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	int fd = (int)syscall(SYS_openat2, open_root(q->pid), q->path, &how, sizeof(how));
	char path[32];
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
}

/* A program or a shared library of this kind of machine. libdw would also unpack archives and compressed files. */
static bool is_module(int fd)
{
	const uint16_t one = 1;
	unsigned char order = *(const unsigned char *)&one ? ELFDATA2LSB : ELFDATA2MSB;
	Elf32_Ehdr head;  /* the fields in front are the same in both classes */

	return pread(fd, &head, sizeof(head), 0) == (ssize_t)sizeof(head) &&
	       memcmp(head.e_ident, ELFMAG, SELFMAG) == 0 && head.e_ident[EI_DATA] == order &&
	       (head.e_type == ET_EXEC || head.e_type == ET_DYN);
}

static int find_no_elf(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base, char **path, Elf **elf)
{
	return -1;
}

static Dwfl_Module *open_module(int fd)
{
	static char path[] = "/usr/lib/debug", *debug_files = path;
	static const Dwfl_Callbacks callbacks = {
		.find_elf = find_no_elf,
		.find_debuginfo = dwfl_standard_find_debuginfo,
		.debuginfo_path = &debug_files,
	};
	Dwfl *dwfl = dwfl_begin(&callbacks);
	Dwfl_Module *module;

	if (!dwfl)
		return NULL;
	dwfl_report_begin(dwfl);
	/* At base 0: addresses are those of the file. */
	module = dwfl_report_elf(dwfl, "module", "module", fd, 0, true);
	return dwfl_report_end(dwfl, NULL, NULL) == 0 ? module : NULL;
}

static bool has_build_id(Dwfl_Module *module, const struct symbolize_request *q)
{
	const unsigned char *bits;
	GElf_Addr at;

	return !q->build_id_len || (dwfl_module_build_id(module, &bits, &at) == (int)q->build_id_len &&
				    memcmp(bits, q->build_id, q->build_id_len) == 0);
}

/* The function, without its parameters: they are long, and line and file tell overloaded ones apart. */
static void put_function(char *name, size_t size, const char *symbol)
{
	bool mangled = symbol[0] == '_' && (symbol[1] == 'Z' || symbol[1] == 'R');
	char *plain = mangled ? cplus_demangle(symbol, DMGL_ANSI) : NULL;
	const char *text = plain ? plain : symbol;

	if (strlen(text) < size)
		strcpy(name, text);
	else
		snprintf(name, size, "%.*s...", (int)(size - sizeof("...")), text);
	free(plain);
}

/* "@file.c:123", or "". */
static void put_line(char *text, size_t size, Dwfl_Module *module, GElf_Addr address)
{
	Dwfl_Line *line = dwfl_module_getsrc(module, address);
	int number = 0;
	const char *file = line ? dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL) : NULL;
	const char *slash = file ? strrchr(file, '/') : NULL;

	*text = '\0';
	if (file && number > 0)
		snprintf(text, size, "@%.*s:%d", (int)size / 2, slash ? slash + 1 : file, number);
}

/* A return address belongs to the call in front of it. Only a symbol that reaches over it will do: the nearest one
 * would be a wrong name in a file that has lost its own functions' names. */
static void put_name(char *name, Dwfl_Module *module, uint64_t offset)
{
	GElf_Addr address = offset - 1;
	char line[SYMBOLIZE_NAME / 2];
	GElf_Off inside;
	GElf_Sym symbol;
	const char *text = offset ? dwfl_module_addrinfo(module, address, &inside, &symbol, NULL, NULL, NULL) : NULL;

	if (!text || !*text || inside >= symbol.st_size)
		return;
	put_line(line, sizeof(line), module, address);
	put_function(name, SYMBOLIZE_NAME - strlen(line), text);
	strcat(name, line);
}

static void write_names(const struct symbolize_request *q)
{
	int fd = open_file(q);
	Dwfl_Module *module = fd >= 0 && is_module(fd) ? open_module(fd) : NULL;

	if (!module || !has_build_id(module, q))
		return;
	for (uint32_t i = 0; i < q->offsets; i++) {
		char name[SYMBOLIZE_NAME] = "";

		put_name(name, module, q->offset[i]);
		if (write(ANSWER, name, sizeof(name)) != (ssize_t)sizeof(name))
			return;
	}
}

/* Keeps the pipe, as ANSWER, and nothing else. */
static bool close_others(int pipe)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup2(null, SERVER) < 0 || dup2(null, STDOUT_FILENO) < 0)
		return false;
#ifndef __SANITIZE_ADDRESS__  /* whose findings are to be seen */
	if (dup2(null, STDERR_FILENO) < 0)
		return false;
#endif
	if (pipe != ANSWER && dup2(pipe, ANSWER) < 0)
		return false;
	return close_range(ANSWER + 1, UINT_MAX, 0) == 0;
}

static _Noreturn void child(const struct symbolize_request *q, int pipe, pid_t parent)
{
	(void)setpriority(PRIO_PROCESS, 0, NICE);
	if (close_others(pipe) && drop(q) && confine(q) &&
	    /* Last, since changing the user clears it. */
	    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 && getppid() == parent)
		write_names(q);
	_exit(EXIT_SUCCESS);
}

/* ---- in the parent ---- */

static unsigned stuck;  /* children that were killed and are still there */

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Takes in names until the child has closed the pipe. false: the time was up. The server's end is the child's, too. */
static bool read_names(int fd, struct symbolize_answer *a, uint32_t limit_ms, pid_t pid)
{
	struct pollfd p[] = { { .fd = fd, .events = POLLIN }, { .fd = SERVER, .events = POLLRDHUP } };
	uint64_t end = now_ms() + limit_ms;
	size_t want = a->names * sizeof(a->name[0]), have = 0;
	char *to = a->name[0];

	while (have < want) {
		uint64_t now = now_ms();
		ssize_t n;

		if (now >= end)
			return false;
		if (poll(p, 2, (int)(end - now)) <= 0)
			continue;
		if (p[1].revents) {
			kill(pid, SIGKILL);
			exit(EXIT_SUCCESS);
		}
		n = read(fd, to + have, want - have);
		if (n == 0 || (n < 0 && errno != EINTR))
			break;
		have += n > 0 ? (size_t)n : 0;
	}
	/* The last one may be half a name. */
	memset(to + have - have % sizeof(a->name[0]), 0, have % sizeof(a->name[0]));
	return true;
}

/* Ends a child that may be ending already. Returns whether it had used up its processor time. */
static bool end_child(pid_t pid)
{
	struct pollfd p = { .fd = pidfd_open(pid, 0), .events = POLLIN };
	int status = 0;

	kill(pid, SIGKILL);
	(void)poll(&p, 1, KILLED_MS);
	if (waitpid(pid, &status, WNOHANG) != pid)
		stuck++;
	close(p.fd);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU;
}

static void serve(const struct symbolize_request *q, struct symbolize_answer *a)
{
	pid_t parent = getpid(), pid;
	int pair[2];
	bool late;

	*a = (struct symbolize_answer){ .result = SYMBOLIZE_DONE, .names = q->offsets };
	while (stuck && waitpid(-1, NULL, WNOHANG) > 0)
		stuck--;
	if (stuck >= STUCK_MAX) {
		a->result = SYMBOLIZE_LATE;
		return;
	}
	if (pipe2(pair, O_CLOEXEC) < 0)
		return;
	pid = fork();
	if (pid == 0)
		child(q, pair[1], parent);
	close(pair[1]);
	if (pid > 0) {
		late = !read_names(pair[0], a, q->limit_ms, pid);
		if (end_child(pid) || late)
			a->result = SYMBOLIZE_LATE;
	}
	close(pair[0]);
	for (uint32_t i = 0; i < a->names; i++)
		a->name[i][SYMBOLIZE_NAME - 1] = '\0';
}

/* (uid_t)-1 would mean to setresuid(): stay what you are. */
static bool is_valid(const struct symbolize_request *q)
{
	return q->offsets >= 1 && q->offsets <= SYMBOLIZE_OFFSETS && q->build_id_len <= SYMBOLIZE_BUILD_ID &&
	       q->uid != UINT32_MAX && q->gid != UINT32_MAX && q->pid >= 0 && q->limit_ms <= INT_MAX &&
	       q->path[0] == '/' && memchr(q->path, '\0', sizeof(q->path));
}

static bool is_our_socket(void)
{
	int type = 0;
	socklen_t size = sizeof(type);

	return getsockopt(SERVER, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

int main(int argc, char **argv)
{
	static struct symbolize_request request;
	static struct symbolize_answer answer;
	ssize_t n;

	if (argc != 1 || !is_our_socket()) {
		fprintf(stderr, "%s: is started by ttallocd; there is nothing to do by hand\n", SYMBOLIZE_PROGRAM);
		return 2;
	}
	clearenv();
	close_range(STDERR_FILENO + 1, UINT_MAX, 0);
	if (chdir("/") < 0)
		return EXIT_FAILURE;
	for (;;) {
		do
			n = recv(SERVER, &request, sizeof(request), MSG_TRUNC);
		while (n < 0 && errno == EINTR);
		if (n == 0)
			return EXIT_SUCCESS;
		if (n != (ssize_t)sizeof(request) || !is_valid(&request))
			return EXIT_FAILURE;
		serve(&request, &answer);
		if (send(SERVER, &answer, sizeof(answer), MSG_NOSIGNAL) != (ssize_t)sizeof(answer))
			return EXIT_FAILURE;
	}
}
