#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The stream `events`: its lines, parked readers, O_NONBLOCK, poll, small reads, falling behind; and `trace`.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1

server_start
rc "events" 0 py "$TOOLS/events.py" "$M" "$C"
server_stop

# By the shell. A reader that has printed one line has its position; what comes next is for it.
server_start
sender_start a 144
mkfifo "$T/lines"
cat "$M/events" >"$T/lines" &
reader=$!
exec {lines}<"$T/lines"
# cat has opened `events` at the latest when its first line is here
first=
while [ -z "$first" ]; do
	say a alloc 0 dram 0x1000 4096
	IFS= read -r -t 0 -u "$lines" && IFS= read -r -u "$lines" first
done
like "cat events" '[0-9.]+ [0-9]+ (alloc|ref) 0 dram 0x000000001000 4096 [0-9]+ [0-9]+ -' "$first"
say a free 5 0x77
last=
while IFS= read -r -u "$lines" line; do
	case $line in *unknown_free*) last=$line && break ;; esac
done
like "and on" "[0-9.]+ [0-9]+ unknown_free 5 .* ${SENDER_PID[a]} .*" "$last"
kill -TERM "$reader"
wait "$reader"
eq "an interrupted cat ends" 143 $?
exec {lines}<&-

# `head -1 events` while a sender goes on: head opens at some point between two events, and one of the next ones is it
mkfifo "$T/head"
head -1 "$M/events" >"$T/head" &
reader=$!
exec {lines}<"$T/head"
first=
while [ -z "$first" ]; do
	say a alloc 0 dram 0x2000 4096
	IFS= read -r -t 0 -u "$lines" && IFS= read -r -u "$lines" first
done
wait "$reader"
eq "head -1 ends" 0 $?
exec {lines}<&-
like "head -1 events" '[0-9.]+ [0-9]+ (alloc|ref) 0 dram 0x000000002000 .*' "$first"

# nothing happens: an end by timeout, with nothing printed (the server counts no event for a reader)
eq "timeout cat events" "" "$(timeout 0.2 cat "$M/events")"
# `timeout 5 cat events | head -1`: ends by SIGPIPE or by timeout, in any case with one line
mkfifo "$T/pipe"
(timeout 30 cat "$M/events" | head -1 >"$T/pipe") &
reader=$!
exec {lines}<"$T/pipe"
first=
while [ -z "$first" ]; do
	say a alloc 0 dram 0x3000 4096
	IFS= read -r -t 0 -u "$lines" && IFS= read -r -u "$lines" first
done
like "cat events | head -1" '[0-9.]+ [0-9]+ (alloc|ref) 0 dram 0x000000003000 .*' "$first"
exec {lines}<&-
# the cat behind a head that has ended ends with its next write
while [ -d "/proc/$reader" ] && kill -0 "$reader" 2>/dev/null; do
	say a alloc 0 dram 0x3000 4096
done
wait "$reader"

eq "nonblocking" EAGAIN "$(op nonblock "$M/events")"
eq "trace does not block" OK "$(op nonblock "$M/trace" >/dev/null && echo OK)"
like "trace | tail -1" '.* (alloc|ref) 0 dram .*' "$(tail -n 1 "$M/trace")"
sender_end a
server_stop
