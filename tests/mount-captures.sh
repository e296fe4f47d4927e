#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every stream of an existing client reaches the state of the booking rules, whatever the pieces in which it arrives:
# whole, byte by byte, cut at 200 random places, and all at once on a connection each from a process each.
# TTALLOC_CAPTURES: a folder of recorded streams; streams of the same shape are made here in any case.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1

# replay HOW STREAM...: on a fresh server
replay() {
	server_start
	CHECKS=$((CHECKS + 1))
	${IN_FRONT:-} "$PYTHON" "$TESTS/replay.py" --mount "$M" --socket "$SOCKET" --how "$@" || fail "replay $*"
	server_stop
}

SOCKET=$C
for dialect in 72 112 128 144; do
	for how in whole cuts mixed ask; do
		replay $how synth:$dialect
	done
	replay bytes synth:$dialect:400
done
SOCKET=$S
replay whole synth:144
replay cuts synth:72
SOCKET=$C
replay mixed synth:72 synth:112 synth:128 synth:144 synth:144:5000

if [ -n "${TTALLOC_CAPTURES:-}" ]; then
	captures=$(cd "$TTALLOC_CAPTURES" && pwd) || die "TTALLOC_CAPTURES: no such folder"
	rc "the model agrees with expected.json" 0 py "$TESTS/model.py" --captures "$captures"
	count=0
	for stream in "$captures"/*.c2s; do
		for how in whole bytes cuts ask; do
			replay $how "$stream"
		done
		count=$((count + 1))
	done
	eq "recorded streams" 5 $count
	replay mixed "$captures"/*.c2s
	replay bytes "$captures"/*.c2s
	if [ "$ROOT" = yes ] && unshare --pid --fork true 2>/dev/null; then
		IN_FRONT="unshare --pid --fork --kill-child"
		for stream in "$captures"/*.c2s; do
			replay whole --as-recorded "$stream"
		done
		IN_FRONT=
	else
		note "no pid namespaces here: not replayed with the recorded process ids"
	fi
fi
