#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Who sent something is decided by the kernel, never by the message.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1

# owner ADDRESS: pid and uid of the live buffer there on device 0
owner() { awk -v a="$1" '$3 == a { print $6, $7 }' "$M/allocs"; }

server_start
ME=$(id -u)
sender_start a 72
A=${SENDER_PID[a]}
sender_start b 144
B=${SENDER_PID[b]}

# ---- the peer ----
say a alloc 0 dram 0x1 10
eq "the own pid" "$A $ME" "$(owner 0x000000000001)"
eq "no reported_pid" "-" "$(key "$M/pids/$A/status" reported_pid)"

# ---- a forked child over its parent's connection is itself ----
say a child alloc 0 dram 0x2 20
child=${ANSWER%% *}
eq "the child's buffer" "$child $ME" "$(owner 0x000000000002)"
eq "the child is known" "live" "$(key "$M/pids/$child/status" state)"
say a child free 0 0x1
eq "the child frees its parent's: foreign" "1 1" "$(stat_of foreign_frees) $(stat_of live_buffers)"
say a alloc 0 dram 0x1 10
say a free 0 0x2
eq "the parent frees its child's: foreign" "2 1" "$(stat_of foreign_frees) $(stat_of live_buffers)"
say a child alloc 0 dram 0x3 30
child=${ANSWER%% *}
eq "alive: no suspect" "" "$(ls -A "$M/leaks")"
say a reap
eq "the child ended: its buffer is a suspect" "pid$child-device0-dram-0x000000000003" \
	"$(names "$M/leaks" | sed 's/-[0-9]*$//')"
eq "the parent's is not" "$A $ME" "$(owner 0x000000000001)"
eq "the child's state" dead "$(key "$M/pids/$child/status" state)"

# ---- the pid of one that has ended is nobody: the peer ----
say a as "$child" alloc 0 dram 0x4 40
eq "the pid of an ended child" "$A $ME" "$(owner 0x000000000004)"

# ---- nonsense: the peer ----
n=16
for pid in 0 -1 -2147483648 2147483647 4194305; do
	say a as "$pid" alloc 0 dram $n 1
	eq "reported pid $pid" "$A $ME" "$(owner "$(printf '0x%012x' $n)")"
	[ "$pid" = 0 ] || eq "reported_pid $pid is shown" "$pid" "$(key "$M/pids/$A/status" reported_pid)"
	n=$((n + 16))
done
say a as 0 free 0 16
eq "a free with pid 0" "" "$(owner 0x000000000010)"

# ---- a living process of the same user ----
say b alloc 0 dram 0x5 50
say a as "$B" alloc 0 dram 0x6 60
eq "the reported process of the same user" "$B $ME" "$(owner 0x000000000006)"
say b free 0 0x6
eq "which it can free" "" "$(owner 0x000000000006)"

# ---- nobody reaches across users ----
if [ "$ROOT" = yes ]; then
	SENDER_AS="setpriv --reuid $NOBODY --regid $NOBODY --clear-groups" sender_start x 144
	X=${SENDER_PID[x]}
	say x alloc 0 dram 0x7 70
	eq "another user" "$X $NOBODY" "$(owner 0x000000000007)"
	for pid in "$A" 1 "$SERVER"; do
		say x as "$pid" alloc 0 dram 0x1000 1
		eq "another user's claim to be $pid" "$X $NOBODY" "$(owner 0x000000001000)"
		say x as "$pid" free 0 0x1000
		eq "and its free" "" "$(owner 0x000000001000)"
	done
	before=$(stat_of foreign_frees)
	say x free 0 0x1
	say x as "$A" free 0 0x1
	eq "another user's free is refused" "$A $ME" "$(owner 0x000000000001)"
	eq "and counted" $((before + 2)) "$(stat_of foreign_frees)"
	like "and told" ".*$X.*" "$(tail -n 1 "$M/error_log")"
	say a free 0 0x7
	eq "root's free of another user's, too" "$X $NOBODY" "$(owner 0x000000000007)"
	say a as "$X" alloc 0 dram 0x8 80
	eq "root's claim to be somebody else" "$A $ME" "$(owner 0x000000000008)"
	eq "exe and comm of another user's process" "$(readlink "/proc/$X/exe") $(cat "/proc/$X/comm")" \
		"$(key "$M/pids/$X/status" exe) $(key "$M/pids/$X/status" comm)"
	sender_end x

	# ---- in a pid namespace: the pid inside is the peer's own, any other is not believed ----
	if unshare --pid --fork true 2>/dev/null; then
		SENDER_AS="unshare --pid --fork --kill-child" sender_start ns 144
		inside=${SENDER_PID[ns]}
		eq "the pid inside" 1 "$inside"
		say ns alloc 0 dram 0x9 90
		outer=$(owner 0x000000000009)
		outer=${outer%% *}
		like "the pid outside" '[0-9]+' "$outer"
		eq "is the sender's" "$("$PYTHON" -c 'import os; print(os.path.basename(os.readlink("/proc/'"$outer"'/exe")))')" \
			"$(basename "$(realpath "$PYTHON")")"
		eq "its inner pid" "$outer 1" "$(awk '/^NSpid/ { print $2, $3 }' "/proc/$outer/status")"
		say ns as "$A" alloc 0 dram 0xa 100
		eq "a pid of the server's namespace, from inside" "$outer" "$(awk '{ print $1 }' <<<"$(owner 0x00000000000a)")"
		eq "what it reported is shown" "$A" "$(key "$M/pids/$outer/status" reported_pid)"
		SENDER_PID[ns]=$outer # for the clean-up
		sender_end ns
		eq "its end is seen" dead "$(key "$M/pids/$outer/status" state)"
	else
		note "no pid namespaces here"
	fi
fi

# ---- one process, several connections, dialects and sockets ----
echo reset >"$M/ctl"
say a alloc 0 dram 0x20 1
say a close
say a connect
say a alloc 0 dram 0x30 1
eq "one row for one process" 1 "$(rows "$M/processes" | awk -v p="$A" '$1 == p' | wc -l)"
eq "both are its own" "2" "$(rows "$M/pids/$A/allocs" | wc -l)"
say a free 0 0x20
eq "freed over the new connection" "1" "$(stat_of frees_total)"
sender_end a
sender_end b
server_stop
