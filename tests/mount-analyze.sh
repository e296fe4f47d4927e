#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The same events three times: what the server has booked, what ttalloc analyze makes of its trace, and what it makes of
# the detailed logs of the programs. All agree.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1
[ -x "$TTALLOC_WORKLOAD" ] || die "no ttalloc-workload; set TTALLOC_WORKLOAD or give the build directory"
TTALLOC=${TTALLOC:-$(find_binary ttalloc)}
[ -x "$TTALLOC" ] || die "no ttalloc; set TTALLOC or give the build directory"
unset TTALLOC_SOCKET TT_ALLOC_TRACKING_ENABLED

# sums FILE...: of all devices, in one line
sums() {
	"$TTALLOC" analyze --json "$@" | "$PYTHON" -c '
import json, sys
j = json.load(sys.stdin)
d = j["devices"]
found = lambda kind, what: sum(x[kind][what] for x in d)
print("allocs", sum(x["allocs"] for x in d), "frees", sum(x["frees"] for x in d), "refs", sum(x["refs"] for x in d),
      "live", found("leaked", "count"), "bytes", found("leaked", "bytes"), "double", found("double_freed", "times"),
      "unknown", found("unknown_freed", "times"), "lost", j["lost"], "not understood", j["not_understood"])'
}

stat_of() { sed -n "s/^$1 //p" "$M/stats"; }

# compare WHAT ARGUMENT...: of the workload
compare() {
	what=$1
	shift
	server_start
	rm -f "$T"/*.detail
	TT_ALLOC_TRACKING_DETAILED=1 TTALLOC_LOG="$T/%p.detail" "$TTALLOC_WORKLOAD" --socket "$S" "$@" >"$T/out"
	eq "$what: exit status" 0 $?
	booked="allocs $(stat_of allocs_total) frees $(stat_of frees_total) refs $(stat_of refs_total)"
	booked="$booked live $(stat_of live_buffers) bytes $(stat_of live_bytes) double $(stat_of double_frees)"
	booked="$booked unknown $(stat_of unknown_frees) lost 0 not understood 0"
	eq "$what: trace" "$booked" "$(sums "$M/trace")"
	eq "$what: detailed logs" "$booked" "$(sums "$T"/*.detail)"
	server_stop
}

compare "one process" --steps 20 --leak 3 --double-free 2 --unknown-free 2
compare "three processes" --steps 20 --processes 3 --devices 2 --leak 3 --double-free 2 --unknown-free 2 --keep
eq "a log for each process" 3 "$(find "$T" -name '*.detail' | wc -l)"
compare "killed" --steps 50 --processes 2 --die-after 777
