// SPDX-License-Identifier: LGPL-2.1-or-later
//
// allocation_client.hpp - tt::tt_metal::AllocationClient over libttalloc, for code that was written against the class
// of that name in tt-metal's allocation tracking branches: put it in the place of
// tt_metal/impl/allocator/allocation_client.hpp, drop allocation_client.cpp, link with -lttalloc.
//
// Promises: all names and signatures that existed, and nothing else to link. With tracking off (anything but
// TT_ALLOC_TRACKING_ENABLED=1 at the first call) a report is two compares. With tracking on a report never throws,
// never kills the program and never waits longer than TTALLOC_EVENT_BOUND_MS; see ttalloc.h for the rest.
//
// The server is the one at $TTALLOC_SOCKET, /run/ttalloc/ttalloc.sock or /tmp/tt_allocation_server.sock, in this order.
#pragma once

#include <cstdint>

#include <ttalloc.h>

namespace tt::tt_metal {

class AllocationClient {
public:
	AllocationClient() = delete;

	// Whether reports go anywhere.
	static bool is_enabled() noexcept { return instance() != nullptr; }

	// buffer_type is the number of the BufferType: 0 DRAM, 1 L1, 2 SYSTEM_MEMORY, 3 L1_SMALL, 4 TRACE. buffer_id is the
	// device address.
	static void report_allocation(int device_id, uint64_t size, uint8_t buffer_type, uint64_t buffer_id) noexcept {
		ttalloc_alloc(instance(), device_id, buffer_type, buffer_id, size);
	}
	static void report_deallocation(int device_id, uint64_t buffer_id) noexcept {
		ttalloc_free(instance(), device_id, buffer_id);
	}

	// Circular buffers; cb_id is the address.
	static void report_cb_allocation(int device_id, uint64_t size, uint64_t cb_id) noexcept {
		ttalloc_cb_alloc(instance(), device_id, cb_id, size);
	}
	static void report_cb_deallocation(int device_id, uint64_t size, uint64_t cb_id) noexcept {
		ttalloc_cb_free(instance(), device_id, cb_id, size);
	}

	// Kernel binaries; kernel_type is 0 application, 1 fabric, 2 dispatch.
	static void report_kernel_load(int device_id, uint64_t size, uint64_t kernel_id, uint8_t kernel_type = 0) noexcept {
		ttalloc_kernel_load(instance(), device_id, kernel_type, kernel_id, size);
	}
	static void report_kernel_unload(int device_id, uint64_t size, uint64_t kernel_id) noexcept {
		ttalloc_kernel_unload(instance(), device_id, kernel_id, size);
	}

	// Older forms. The first integration patches freed without naming a device, which on the wire was device 0: on
	// more than one device such a free is counted as unknown. Pass the device where you can.
	static void report_deallocation(uint64_t buffer_id) noexcept { report_deallocation(0, buffer_id); }
	static void report_cb_deallocation(int device_id, uint64_t cb_id) noexcept {
		report_cb_deallocation(device_id, 0, cb_id);
	}

private:
	static struct ttalloc *instance() noexcept {
		static struct ttalloc *const t = ttalloc_default();
		return t;
	}
};

}  // namespace tt::tt_metal
