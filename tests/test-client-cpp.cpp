// SPDX-License-Identifier: GPL-2.0-or-later
//
// test-client-cpp.cpp - contrib/tt-metal/allocation_client.hpp as existing code uses it, against a fake server.
//
// Run without arguments it starts itself twice, since tracking is chosen once per process: with tracking off nothing
// may arrive, with tracking on every call must have become its message. What is sent over a Unix socket waits for its
// reader, so the server is this process, afterwards.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>

#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/ttalloc-proto.h"
#include "contrib/tt-metal/allocation_client.hpp"

using tt::tt_metal::AllocationClient;

// The signatures that calling code was compiled against.
static_assert(std::is_invocable_r_v<bool, decltype(&AllocationClient::is_enabled)>);
static_assert(
	std::is_invocable_r_v<void, decltype(&AllocationClient::report_allocation), int, uint64_t, uint8_t, uint64_t>);
static_assert(std::is_invocable_r_v<void, decltype(&AllocationClient::report_cb_allocation), int, uint64_t, uint64_t>);
static_assert(
	std::is_invocable_r_v<void, decltype(&AllocationClient::report_kernel_load), int, uint64_t, uint64_t, uint8_t>);
static_assert(std::is_invocable_r_v<void, decltype(&AllocationClient::report_kernel_unload), int, uint64_t, uint64_t>);
static_assert(noexcept(AllocationClient::report_deallocation(0, uint64_t{1})));
static_assert(!std::is_default_constructible_v<AllocationClient>);

#define NEED(condition)                                                                         \
	do {                                                                                    \
		if (!(condition)) {                                                             \
			std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			std::exit(1);                                                           \
		}                                                                               \
	} while (0)

static int report(bool enabled)
{
	if (AllocationClient::is_enabled() != enabled)
		return 1;
	AllocationClient::report_allocation(3, 0x3000, 4, 0x40000040);
	AllocationClient::report_deallocation(3, 0x40000040);
	AllocationClient::report_deallocation(0x40000080);
	AllocationClient::report_cb_allocation(1, 2048, 0x20000);
	AllocationClient::report_cb_deallocation(1, 2048, 0x20000);
	AllocationClient::report_cb_deallocation(1, 0x20000);
	AllocationClient::report_kernel_load(2, 8192, 0x1000);
	AllocationClient::report_kernel_load(2, 8192, 0x1001, 2);
	AllocationClient::report_kernel_unload(2, 8192, 0x1001);
	return 0;
}

static void run(const char *self, const char *enabled)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		setenv("TT_ALLOC_TRACKING_ENABLED", enabled, 1);
		execl(self, self, enabled, static_cast<char *>(nullptr));
		_exit(127);
	}
	NEED(waitpid(pid, &status, 0) == pid);
	NEED(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void expect(int fd, uint8_t type, int device, uint8_t buffer_type, uint64_t id, uint64_t size)
{
	unsigned char message[TTALLOC_DIALECT_144];
	ttalloc_msg_head h;

	NEED(recv(fd, message, sizeof(message), MSG_WAITALL) == static_cast<ssize_t>(sizeof(message)));
	std::memcpy(&h, message, sizeof(h));
	NEED(h.type == type);
	NEED(h.device_id == device);
	NEED(h.buffer_type == buffer_type);
	NEED(h.buffer_id == id);
	NEED(h.size == size);
}

static void serve(int listener)
{
	int fd = accept(listener, nullptr, nullptr);
	char byte;

	NEED(fd >= 0);
	/* Nobody answered this, so the events are messages; ttalloc-ring.h, with the magic number, is C only. */
	expect(fd, TTALLOC_MSG_RING, 0, 0, 0x31636f6c6c617474, 1);
	expect(fd, TTALLOC_MSG_ALLOC, 3, 4, 0x40000040, 0x3000);
	expect(fd, TTALLOC_MSG_FREE, 3, 0, 0x40000040, 0);
	expect(fd, TTALLOC_MSG_FREE, 0, 0, 0x40000080, 0);
	expect(fd, TTALLOC_MSG_CB_ALLOC, 1, 0, 0x20000, 2048);
	expect(fd, TTALLOC_MSG_CB_FREE, 1, 0, 0x20000, 2048);
	expect(fd, TTALLOC_MSG_CB_FREE, 1, 0, 0x20000, 0);
	expect(fd, TTALLOC_MSG_KERNEL_LOAD, 2, 0, 0x1000, 8192);
	expect(fd, TTALLOC_MSG_KERNEL_LOAD, 2, 2, 0x1001, 8192);
	expect(fd, TTALLOC_MSG_KERNEL_UNLOAD, 2, 0, 0x1001, 8192);
	NEED(recv(fd, &byte, 1, 0) == 0);
	close(fd);
}

int main(int argc, char **argv)
{
	char dir[] = "/tmp/test-client-cpp-XXXXXX";
	sockaddr_un sa = {};
	int listener;

	if (argc > 1)
		return report(std::strcmp(argv[1], "1") == 0);
	NEED(mkdtemp(dir));
	std::string path = std::string(dir) + "/sock";
	sa.sun_family = AF_UNIX;
	NEED(path.size() < sizeof(sa.sun_path));
	std::memcpy(sa.sun_path, path.c_str(), path.size());
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	NEED(bind(listener, reinterpret_cast<sockaddr *>(&sa), sizeof(sa)) == 0);
	NEED(listen(listener, 4) == 0);
	setenv("TTALLOC_SOCKET", path.c_str(), 1);
	run("/proc/self/exe", "0");
	run("/proc/self/exe", "true");
	NEED(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC) < 0 && errno == EAGAIN);
	run("/proc/self/exe", "1");
	serve(listener);
	close(listener);
	unlink(path.c_str());
	rmdir(dir);
	return 0;
}
