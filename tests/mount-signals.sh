#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Signals while a table is being read: tools that do not try a read again (sed, awk) get all of it, and a reader
# that is killed is gone. Only the stream answers a signal, with EINTR. TT_LARGE_COUNT: buffers.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1

# stopped_and_continued COMMAND...: its output is in $T/got; it is stopped and continued on its way
stopped_and_continued() {
	"$@" >"$T/got" 2>"$T/err" &
	local pid=$! rounds=1000
	# the shell itself notices the end, and then there is nobody to be signalled
	while [ $((rounds--)) -gt 0 ] && kill -STOP $pid 2>/dev/null; do
		kill -CONT $pid 2>/dev/null
	done
	wait $pid
	eq "$*: exit status" 0 $?
	eq "$*: complaints" "" "$(cat "$T/err")"
}

server_start
sender_start a 72
say a fill 0 dram 0x1000000 4096 300000 2048
cat "$M/allocs" >"$T/want"
cat "$M/device0/map" >"$T/map"
eq "lines of allocs" 300001 "$(wc -l <"$T/want")"
eq "lines of map" 300001 "$(grep -c -v ' free ' "$T/map")"
stopped_and_continued sed -n p "$M/allocs"
same "sed allocs" "$T/want" "$T/got"
stopped_and_continued sed -n p "$M/device0/map"
same "sed map" "$T/map" "$T/got"
stopped_and_continued awk '{ print }' "$M/device0/map"
same "awk map" "$T/map" "$T/got"

cat "$M/events" >/dev/null 2>&1 &
PID=$!
kill -KILL $PID
wait $PID 2>/dev/null
eq "a killed reader of events" 137 $?
server_stop
