#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# check-includes.sh [TOP]: who may include whom.
#
#	client wire header  <-  tracker  <-  fs
#
#  * client/ includes neither tracker/ nor fs/
#  * tracker/ includes neither fs/ nor libfuse, and of client/ only ttalloc-proto.h and ttalloc-ring.h
#  * fs/ includes of client/ only those two
#  * libfuse in fs/ops.c, fs/session.c, fs/main.c only
#  * uthash in .c files only
#  * libdw, libelf and libiberty in tracker/symbolize.c only: the server reads no executables
#  * system() and popen() nowhere
#
# Afterwards it breaks each rule in a copy of its own making and fails unless that is found.

set -u
export LC_ALL=C
top=${1:-$(dirname "$0")/..}
top=$(cd "$top" && pwd) || exit 1

# Prints "FILE:LINE:rule" for each violation below the folder $1. Comments and, except on an include line, the insides
# of strings are not looked at.
check() (
	cd "$1" || exit 1
	find client tracker fs tests contrib \( -name '*.[ch]' -o -name '*.hpp' -o -name '*.cpp' \) 2>/dev/null |
		sort | while IFS= read -r file; do
		awk -v file="$file" '
		function bad(rule) { print file ":" NR ": " rule }
		# the line without comments and without the insides of strings
		function code(s,    out, c, i, quote) {
			out = ""
			for (i = 1; i <= length(s); i++) {
				c = substr(s, i, 1)
				if (comment) {
					if (c == "*" && substr(s, i + 1, 1) == "/") { comment = 0; i++ }
				} else if (quote != "") {
					if (c == "\\") i++
					else if (c == quote) { quote = ""; out = out c }
				} else if (c == "/" && substr(s, i + 1, 1) == "*") { comment = 1; i++; out = out " " }
				else if (c == "/" && substr(s, i + 1, 1) == "/") return out
				else { if (c == "\"" || c == "\047") quote = c; out = out c }
			}
			return out
		}
		{
			was_comment = comment
			text = code($0)
			if (!was_comment && text ~ /^[ \t]*#[ \t]*include/) {
				name = $0
				sub(/^[ \t]*#[ \t]*include[ \t]*/, "", name)
				quoted = name ~ /^"/
				sub(/^["<]/, "", name)
				sub(/[">].*$/, "", name)
				folder = file
				sub(/\/.*$/, "", folder)
				split(name, part, "/")
				if (name ~ /\.\.\//) bad("include by a path with ..: " name)
				if (folder == "client" && part[1] ~ /^(tracker|fs)$/)
					bad("client includes " name)
				if (folder == "tracker" && part[1] == "fs")
					bad("tracker includes " name)
				if ((folder == "tracker" || folder == "fs") && part[1] == "client" && \
				    name != "client/ttalloc-proto.h" && name != "client/ttalloc-ring.h")
					bad(folder " includes " name)
				if ((folder == "tracker" || folder == "fs") && name ~ /^ttalloc[a-z-]*\.h$/)
					bad(folder " includes " name)
				if (quoted && name !~ /\// && (folder == "tracker" || folder == "fs"))
					bad("include without its folder: " name)
				if (name ~ /fuse(_[a-z]+)?\.h$/ && name !~ /^tracker\// && folder != "tests" && \
				    file != "fs/ops.c" && file != "fs/session.c" && file != "fs/main.c")
					bad("libfuse: " name)
				if (name ~ /^ut(hash|list|array|ringbuffer|stack|string)\.h$/ && file !~ /\.c$/)
					bad("uthash in a header: " name)
				if (name ~ /^((elfutils|libiberty)\/.*|(dwarf|gelf|libelf|demangle)\.h)$/ && \
				    file != "tracker/symbolize.c")
					bad("libdw or libiberty: " name)
				next
			}
			if (text ~ /(^|[^A-Za-z0-9_.>])(system|popen)[ \t]*\(/)
				bad("system() or popen()")
		}' "$file"
	done
)

failures=0
found=$(check "$top")
if [ -n "$found" ]; then
	echo "FAIL includes:"
	printf '%s\n' "$found"
	failures=1
fi
sources=$(find "$top/client" "$top/tracker" "$top/fs" -name '*.[ch]' 2>/dev/null | wc -l)
if [ "$sources" = 0 ]; then
	echo "FAIL no sources below $top"
	failures=1
fi

# ---- does it find anything? ----

t=$(mktemp -d) || exit 1
trap 'rm -rf "$t"' EXIT
checks=0

# expect FILE COUNT LINE...: a tree of one file with these lines has COUNT violations
expect() {
	file=$1
	want=$2
	shift 2
	rm -rf "$t/tree"
	mkdir -p "$t/tree/$(dirname "$file")"
	printf '%s\n' "$@" >"$t/tree/$file"
	got=$(check "$t/tree" | wc -l)
	checks=$((checks + 1))
	if [ "$got" != "$want" ]; then
		echo "FAIL self-test: $file with $*: expected $want violations, got $got"
		failures=1
	fi
}

expect client/a.c 1 '#include "tracker/registry.h"'
expect client/a.h 1 '# include <fs/nodes.h>'
expect client/a.c 0 '#include "client/ttalloc-proto.h"' '#include <stdio.h>'
expect tracker/a.c 1 '#include "fs/nodes.h"'
expect tracker/a.c 1 '#include "client/ttalloc.h"'
expect tracker/a.c 1 '#include <ttalloc.h>'
expect tracker/a.c 1 '#include "../fs/nodes.h"'
expect tracker/a.c 1 '#include "nodes.h"'
expect tracker/a.c 0 '#include "client/ttalloc-proto.h"' '#include "tracker/b.h"'
expect tracker/a.c 1 '#include <fuse3/fuse_lowlevel.h>'
expect tracker/a.h 1 '#include <fuse_lowlevel.h>'
expect fs/nodes.c 1 '	#	include <fuse3/fuse.h>'
expect fs/session.h 1 '#include <fuse3/fuse_lowlevel.h>'
expect fs/ops.c 0 '#include <fuse3/fuse_lowlevel.h>' '#include "tracker/registry.h"'
expect fs/session.c 0 '#include <fuse3/fuse_lowlevel.h>'
expect fs/main.c 0 '#include <fuse3/fuse_lowlevel.h>'
expect fs/main.c 1 '#include "client/ttalloc.h"'
expect tracker/a.h 1 '#include <uthash.h>'
expect client/a.h 1 '#include "utlist.h"'
expect tracker/a.c 0 '#include <uthash.h>'
expect tracker/resolver.c 1 '#include <elfutils/libdwfl.h>'
expect tracker/symbolize.h 1 '#include <libiberty/demangle.h>'
expect fs/a.c 1 '#include <gelf.h>'
expect tests/test-a.c 1 '#include <libelf.h>'
expect tests/test-a.c 0 '#include <elf.h>'
expect tracker/symbolize.c 0 '#include <elfutils/libdwfl.h>' '#include <libiberty/demangle.h>' '#include <elf.h>'
expect tracker/a.c 1 'int x = system("ls");'
expect contrib/tt-metal/a.hpp 1 'auto *p = popen (cmd, "r");'
expect tests/test-a.c 1 'return ::system("ls");'
expect fs/a.c 0 '/* system("ls") */ // popen(x)' 'puts("system(1)");' 'my_system(1); p->system(2);'
expect fs/a.c 0 '/*' '#include <fuse3/fuse.h>' 'system(' '*/'

echo "check-includes: $sources sources, $checks self-checks, $([ $failures = 0 ] && echo ok || echo failures)"
exit $failures
