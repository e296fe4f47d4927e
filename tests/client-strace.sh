#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# client-strace.sh TEST-CLIENT-RING: a million events of one thread, with call sites and a tag, make no system call.
#
# But one: about once a second the library looks whether the server lives (fstat, poll). A slow machine may get there.

set -u
program=$1
if ! strace -o /dev/null true 2>/dev/null; then
	echo "client-strace: no strace, or it may not trace"
	exit 77
fi
t=$(mktemp -d) || exit 1
trap 'rm -rf "$t"' EXIT
mkfifo "$t/in" "$t/out" || exit 1

"$program" --serve "$t/sock" <"$t/in" >"$t/out" &
exec 8>"$t/in" 9<"$t/out"
read -r _ <&9
# LeakSanitizer cannot work in a program that is traced.
ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0" \
	strace -f -o "$t/trace" "$program" --million "$t/sock" >/dev/null 8>&- 9<&-
status=$?
exec 8>&-
wait

if [ $status != 0 ]; then
	echo "FAIL client-strace: the program ended with $status"
	exit 1
fi
sed -n '/"begin/,/"end/p' "$t/trace" | sed '1d;$d' >"$t/between"
looks=$(grep -c -E '^[0-9]+ +(poll|ppoll|fstat|newfstatat)\(' "$t/between")
others=$(grep -v -c -E '^[0-9]+ +(poll|ppoll|fstat|newfstatat)\(' "$t/between")
if ! grep -q '"begin' "$t/trace" || [ "$others" != 0 ] || [ "$looks" -gt 20 ]; then
	echo "FAIL client-strace: system calls between the first and the last of a million events:"
	head -20 "$t/between"
	exit 1
fi
echo "client-strace: 1000000 events, $others system calls, $looks for looks at the server: ok"
