#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The workload, through the real client library: what it believes to have left is what the mount says. And what a
# program notices of a server that dies: nothing.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1
[ -x "$TTALLOC_WORKLOAD" ] || die "no ttalloc-workload; set TTALLOC_WORKLOAD or give the build directory"
unset TTALLOC_SOCKET TT_ALLOC_TRACKING_ENABLED

# workload WHAT ARGUMENT...: on a fresh server; runs to its end, then the totals are compared
workload() {
	server_start
	"$TTALLOC_WORKLOAD" --socket "$S" "$@" >"$T/out" 2>"$T/err"
	eq "workload $*: exit status" 0 $?
	eq "workload $*: complaints" "" "$(cat "$T/err")"
	rc "workload $*: totals" 0 py "$TOOLS/workload.py" "$M" "$T/out" ${TRANSPORT:-}
	server_stop
}

workload
workload --devices 3 --layers 12 --steps 50 --seed 7
workload --keep --devices 2
workload --processes 4 --devices 2 --keep
workload --leak 5 --double-free 3 --unknown-free 4
workload --processes 3 --leak 5 --double-free 3 --unknown-free 4 --steps 20 --seed 3
for n in 1 2 100 777; do
	workload --die-after $n --steps 50
done
workload --die-after 500 --processes 8 --devices 4 --leak 2
# Where a file of 4 GiB is too large there is no ring; messages do as well.
TRANSPORT=socket144 TTALLOCD_WRAPPER="prlimit --fsize=1073741824 ${TTALLOCD_WRAPPER:-}" workload

# ---- where a buffer was freed, freed once more, and what was freed that never was ----
server_start
rc "faults" 0 "$TTALLOC_WORKLOAD" --socket "$S" --steps 2 --double-free 1 --unknown-free 1 >"$T/out"
# of KIND: its column `site` in trace
site_of() { rows "$M/trace" | awk -v kind="$1" '$3 == kind { print $10 }'; }
twice=$(site_of double_free)
address=$(rows "$M/trace" | awk '$3 == "double_free" { print $6 }')
past=$M/device0/history/$address
sites=$(sed -n 's/^  .* site=//p' "$past")
like "site of the double free" '[0-9a-f]{16}' "$twice"
like "site of the unknown free" '[0-9a-f]{16}' "$(site_of unknown_free)"
eq "history: each has its place" "ALLOC FREE DOUBLE_FREE" "$(awk '/ site=/ { print $2 }' "$past" | xargs)"
eq "history: three places" 3 "$(sort -u <<<"$sites" | wc -l)"
eq "history: the last is that of trace" "$twice" "$(tail -n 1 <<<"$sites")"
for site in $sites $(site_of unknown_free); do
	eq "stacks/$site" "$site" "$(key "$M/stacks/$site" site)"
done
server_stop

# ---- while it holds ----
server_start
mkfifo "$T/told"
"$TTALLOC_WORKLOAD" --socket "$S" --hold --processes 2 --devices 2 --leak 1 >"$T/told" 2>"$T/err" &
job=$!
exec {told}<"$T/told"
: >"$T/out"
while IFS= read -r -u "$told" line; do
	printf '%s\n' "$line" >>"$T/out"
	[ "$line" != "state holding" ] || break
done
rc "holding: totals" 0 py "$TOOLS/workload.py" "$M" "$T/out"
kill -TERM $job
cat <&"$told" >>"$T/out"
exec {told}<&-
wait $job
eq "holding: exit status" 0 $?
rc "after holding: totals" 0 py "$TOOLS/workload.py" "$M" "$T/out"
server_stop

# ---- no server, then one, then its death, then another: the program goes on and ends well ----
# first_event PID: returns when the server has had an event of that process
first_event() {
	local line
	while IFS= read -r line; do
		case $line in *" alloc "*" $1 "*) return 0 ;; esac
	done <"$M/events"
	return 1
}
# (exit status 1 says that not every event was confirmed; a signal would be above 128)
"$TTALLOC_WORKLOAD" --socket "$S" --steps 3 >"$T/out" 2>"$T/err"
eq "no server at all: exit status" 1 $?
eq "no server at all: it got to its end" "state done" "$(tail -n 1 "$T/out")"
"$TTALLOC_WORKLOAD" --socket "$S" --steps 0 --rate 20000 >"$T/out" 2>"$T/err" &
job=$!
for i in 1 2 3; do
	server_start
	first_event $job || fail "server $i: no event of the workload"
	kill -0 $job || fail "server $i: the workload ended"
	[ $i = 3 ] && break
	kill -KILL "$SERVER"
	wait_pid "$SERVER" 10 || fail "kill -9"
done
kill -TERM $job
wait $job
status=$?
# What the servers had not booked was delivered to the next; it says 1 when it cannot tell of each event.
like "the program survived two servers: exit status" '[01]' $status
eq "it got to its end" "state done" "$(tail -n 1 "$T/out")"
case $status in
0) like "and knows of each event" '.* queued 0 dropped 0 uncertain 0' "$(grep '^events' "$T/out")" ;;
*) like "and knows that something is uncertain" '.* uncertain [1-9][0-9]*' "$(grep '^events' "$T/out")" ;;
esac
eq "its end was seen" dead "$(key "$M/pids/$job/status" state)"
server_stop
