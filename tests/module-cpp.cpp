// SPDX-License-Identifier: GPL-2.0-or-later
//
// module-cpp.cpp - a small C++ library whose functions test-resolver looks up.
namespace outer {
template <typename T> struct Buffer {
	static void grow(T, const char *) {}
};
template struct Buffer<int>;
}

extern "C" void (*const module_cpp_address)(int, const char *);
void (*const module_cpp_address)(int, const char *) = outer::Buffer<int>::grow;
