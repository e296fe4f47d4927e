#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Marks from the shell, from the client library and as messages; growth in a program that leaks among noise; and what is
# remembered of addresses, also after their buffers are gone.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1
unset TTALLOC_SOCKET TT_ALLOC_TRACKING_ENABLED

# mark_row NAME TYPE DEVICE: the line of marks/<name>/summary without the type and the device
mark_row() { awk -v t="$2" -v d="$3" '$1 == t && $NF == d { $1 = $NF = ""; print }' "$M/marks/$1/summary" | xargs; }

server_start --device 0:dram=1000
eq "no mark" "" "$(ls -A "$M/marks")"
sender_start a 144
A=${SENDER_PID[a]}
say a alloc 0 dram 0x1000 100
say a alloc 0 dram 0x2000 200

# ---- from the shell ----
echo mark before >"$M/ctl" || fail "mark"
eq "the mark" "before" "$(ls "$M/marks")"
eq "its files" "allocs summary" "$(names "$M/marks/before")"
eq "header" "# type count bytes peak capacity used_pct allocs frees delta_count delta_bytes device" \
	"$(head -n 1 "$M/marks/before/summary")"
eq "nothing since" "2 300 300 1000 30.00 0 0 0 0" "$(mark_row before dram 0)"
eq "nothing since: allocs" "" "$(rows "$M/marks/before/allocs")"
say a free 0 0x1000
say a alloc 0 dram 0x3000 600
say a alloc 0 l1 0x3000 7
say a free 0 0x3000 # the newest of both
say a free 0 0x3000
say a alloc 3 dram 0x4000 50
eq "dram since" "1 200 800 1000 20.00 1 2 -1 -100" "$(mark_row before dram 0)"
eq "all types since" "1 200 807 - - 2 3 -1 -100" "$(mark_row before total 0)"
eq "a device that is new" "1 50 50 - - 1 0 1 50" "$(mark_row before dram 3)"
eq "held of what came" "3 dram 0x000000004000 50" "$(rows "$M/marks/before/allocs" | cut -d ' ' -f 1-4)"
eq "the peak of all stays" "800" "$(sum_row 0 dram | cut -d ' ' -f 3)"
echo mark before >"$M/ctl"
eq "it starts anew" "1 200 200 1000 20.00 0 0 0 0" "$(mark_row before dram 0)"
eq "the peak of all stays" "800" "$(sum_row 0 dram | cut -d ' ' -f 3)"
eq "trace" "mark - - - - $$ - -" "$(tail -n 1 "$M/trace" | cut -d ' ' -f 3-)"
exec {held}<"$M/marks/before/allocs"
eq "unmark" 14 "$(op write "$M/ctl" 'unmark before\n')"
eq "gone" "" "$(ls -A "$M/marks")"
eq "gone" ENOENT "$(op stat "$M/marks/before/summary")"
eq "who has it open reads" 1 "$(wc -l <&"$held")"
exec {held}<&-

# ---- refused ----
eq "unknown" ENOENT "$(op write "$M/ctl" 'unmark before\n')"
like "why" ".* ctl: pid [0-9]+: line 1: unmark: no such mark: before" "$(tail -n 1 "$M/error_log")"
for bad in .x a/b '' 'a b'; do
	eq "bad name '$bad'" EINVAL "$(op write "$M/ctl" "mark $bad\\n")"
done
eq "a long name" EINVAL "$(op write "$M/ctl" "mark $(printf '%064d' 0)\\n")"
eq "its longest" 69 "$(op write "$M/ctl" "mark $(printf '%063d' 0)\\n")"
eq "mkdir in marks/" EPERM "$(op mkdir "$M/marks/x" | sed 's/EACCES/EPERM/')"
eq "rmdir of one" EPERM "$(op rmdir "$M/marks/$(printf '%063d' 0)" | sed 's/EACCES/EPERM/')"
seq 1 63 | sed 's/^/mark /' >"$M/ctl"
eq "64 marks" 64 "$(ls "$M/marks" | wc -l)"
eq "one more" ENOSPC "$(op write "$M/ctl" 'mark 64\n')"
like "why" ".* line 1: mark: there are 64 already" "$(tail -n 1 "$M/error_log")"
eq "one that is there" 8 "$(op write "$M/ctl" 'mark 63\n')"
echo reset >"$M/ctl"
eq "reset" "" "$(ls -A "$M/marks")"

# ---- as a message: in order with the events of the connection; in pieces of 24 bytes ----
# say_mark NAME: as libttalloc does without a ring. (msg TYPE DEVICE SIZE BUFFER_TYPE PID ADDRESS TIME)
say_mark() {
	local at words
	for ((at = 0; at < ${#1}; at += 24)); do
		words=$("$PYTHON" -c 'import struct, sys; print(*struct.unpack("<QQQ", sys.argv[1].encode()[:24].ljust(24, b"\0")))' \
			"${1:at}")
		# shellcheck disable=SC2086
		set -- "$1" $words
		say a msg 15 "$at" "$2" "${#1}" "$A" "$3" "$4"
	done
}
say a alloc 0 dram 0x1000 100
say_mark m
say a alloc 0 dram 0x2000 10
eq "a mark by message" "2 110 110 1000 11.00 1 0 1 10" "$(mark_row m dram 0)"
LONG=a-name-of-more-than-twenty-four_and.more-than-48-characters-1
say_mark $LONG
eq "a long one" "$LONG m" "$(names "$M/marks")"
say_mark .bad
like "a bad one" ".* mark refused: pid $A \\(.*\\): '.bad': not a name" "$(tail -n 1 "$M/error_log")"
eq "is counted" "1 2" "$(stat_of refused_events) $(ls "$M/marks" | wc -l)"
if [ "$ROOT" = yes ]; then
	SENDER_AS="setpriv --reuid $NOBODY --regid $NOBODY --clear-groups" sender_start x 144
	say x msg 15 0 109 1 "${SENDER_PID[x]}" 0 0
	like "another user's" ".* mark refused: pid ${SENDER_PID[x]} \\(.*\\): 'm': it is another user's" \
		"$(tail -n 1 "$M/error_log")"
	eq "is as it was" "2 110 110 1000 11.00 1 0 1 10" "$(mark_row m dram 0)"
	eq "ctl is not for everybody" EACCES "$(op_nobody write "$M/ctl" 'mark x\n')"
	sender_end x
fi
echo reset >"$M/ctl"

# ---- history: what is gone is there still ----
eq "no history" "" "$(ls -A "$M/device0/history" 2>/dev/null)"
say a alloc 0 dram 0x1000 100
eq "what is only live has none" "" "$(ls -A "$M/device0/history")"
say a free 0 0x1000
say a free 0 0x1000
say a alloc 0 l1 0x2000 5
say a alloc 0 l1 0x2000 6
say a alloc 2 dram 0x2000 6
eq "two addresses" "0x000000001000 0x000000002000" "$(names "$M/device0/history")"
eq "no file of the freed one" ENOENT "$(op stat "$M/device0/dram/0x1000")"
past() { sed -E 's/^  [0-9.]+ /  /' "$M/device0/history/$1"; }
eq "the past of the freed one" "address 0x000000001000
device 0
type dram
history allocs=1 frees=1
  ALLOC size=100 pid=$A ref=1
  FREE size=100 pid=$A ref=0
  DOUBLE_FREE size=- pid=$A ref=0" "$(past 0x1000)"
eq "length" "$(stat -c %s "$M/device0/history/0x1000")" "$(wc -c <"$M/device0/history/0x1000")"
eq "of a live one" "type l1" "$(past 0X2000 | grep type)"
sender_start b 72
say b alloc 0 dram 0x1000 70
say b free 0 0x1000
eq "across processes, also dead ones" "history allocs=2 frees=2
  ALLOC size=100 pid=$A ref=1
  FREE size=100 pid=$A ref=0
  DOUBLE_FREE size=- pid=$A ref=0
  ALLOC size=70 pid=${SENDER_PID[b]} ref=1
  FREE size=70 pid=${SENDER_PID[b]} ref=0" "$(sender_kill b; past 0x1000 | tail -n +4)"
exec {held}<"$M/device0/history/0x1000"
echo reset history >"$M/ctl"
eq "reset history" "" "$(ls -A "$M/device0/history")"
eq "gone" ENOENT "$(op stat "$M/device0/history/0x1000")"
eq "who has it open reads" 9 "$(wc -l <&"$held")"
exec {held}<&-
say a fill 1 dram 0x10000 0x1000 3000 64
say a unfill 1 0x10000 0x1000 3000
eq "a long listing" 3000 "$(ls "$M/device1/history" | sort -u | wc -l)"
sender_end a
echo reset >"$M/ctl"

# ---- growth: a program that leaks one buffer with each step, among what it holds, and one that does not ----
unset TRANSPORT
for leak in 0 10; do
	echo reset >"$M/ctl"
	"$TTALLOC_WORKLOAD" --socket "$S" --mark --steps 5 --layers 8 --leak "$leak" --keep >"$T/out" 2>"$T/err"
	eq "workload: complaints" "" "$(cat "$T/err")"
	eq "its mark" "step" "$(ls "$M/marks")"
	if [ "$leak" = 0 ]; then
		eq "nothing grows" "" "$(rows "$M/sites" | awk '$7 != 0')"
	else
		eq "what grows" "4096 dram" "$(rows "$M/sites" | awk '$7 != 0 { print $7, $9 }')"
		pid=$(sed -n 's/^pid //p' "$T/out")
		eq "in its process" "4096" "$(rows "$M/pids/$pid/sites" | awk '$7 != 0 { print $7 }')"
	fi
done
echo 7 >"$M/options/growth_marks"
eq "the setting" 7 "$(cat "$M/options/growth_marks")"
eq "too few marks for it" "-" "$(rows "$M/sites" | awk '{ print $7 }' | sort -u)"
for value in 2 17; do
	eq "out of range: $value" ERANGE "$(op write "$M/options/growth_marks" "$value\\n")"
done
server_stop
