#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Commands by every tool that writes; each errno of the table with its reason in error_log; all or nothing per write.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1

server_start
sender_start a 144
say a alloc 0 dram 0x1000 4096
say a alloc 3 l1 0x2000 8192
PID=${SENDER_PID[a]}

dumps() { find "$M/dumps" -mindepth 1 | wc -l; }
last_error() { tail -n 1 "$M/error_log"; }
MADE=0
# made WHAT N: so many dumps more than before, and the effect is there when the write returned
made() {
	MADE=$((MADE + $2))
	eq "$1: dumps" $MADE "$(dumps)"
}
# try WHAT EXPECTED TEXT [FILE]: one write(); EXPECTED as tools/op.py prints it
try() { eq "$1" "$2" "$(op write "${4:-$M/ctl}" "$3")"; }

# ---- by every tool ----
echo dump >"$M/ctl" || fail "echo"
made "echo" 1
FIRST=$(ls "$M/dumps")
printf dump >"$M/ctl" || fail "no newline"
made "no final newline" 1
printf 'dump a\ndump b\n' >"$M/ctl" || fail "printf"
made "two lines" 2
printf '\n# a comment\n   dump   c  \n\n' >"$M/ctl" || fail "comments"
made "blank lines and comments" 1
printf '# nothing\n' >"$M/ctl" || fail "only a comment"
made "only a comment" 0
echo dump >>"$M/ctl" || fail ">>"
made ">>" 1
echo dump | tee "$M/ctl" >/dev/null || fail "tee"
made "tee" 1
echo dump | tee -a "$M/ctl" >/dev/null || fail "tee -a"
made "tee -a" 1
echo dump | dd of="$M/ctl" 2>/dev/null || fail "dd"
made "dd" 1
echo dump | dd of="$M/ctl" conv=notrunc oflag=append 2>/dev/null || fail "dd append"
made "dd append" 1
echo dump >"$T/commands"
cp "$T/commands" "$M/ctl" || fail "cp"
made "cp" 1
cat "$T/commands" >"$M/ctl" || fail "cat"
made "cat" 1
py -c 'import sys; open(sys.argv[1], "w").write("dump\n")' "$M/ctl" || fail "python"
made "python" 1
sh -c 'echo dump >"$1"' sh "$M/ctl" || fail "sh"
made "sh" 1
eq "names" "a b c" "$(names "$M/dumps" | tr -d '0-9' | xargs)"
eq "ctl_refused" 0 "$(stat_of ctl_refused)"
# the 16 newest are kept
printf 'dump x1\ndump x2\ndump x3\n' >"$M/ctl"
eq "at most 16" 16 "$(dumps)"
eq "the oldest is gone" ENOENT "$(op stat "$M/dumps/$FIRST")"
eq "the second is there" "a x3" "$(names "$M/dumps" | tr ' ' '\n' | grep -x -e a -e x3 | xargs)"
rm -f "$M"/dumps/*
eq "rm dumps/*" 0 "$(dumps)"
MADE=0

# ---- commands of more than one meaning: all of them do something visible ----
try "scan" 5 'scan\n'
try "clear" 6 'clear\n'
try "log" 10 'log debug\n'
try "log" 9 'log info\n'
try "reset peaks" 12 'reset peaks\n'
[ "$(stat_of turns)" -gt 0 ] && [ "$(stat_of turn_max_us)" -gt 0 ] || fail "turns are not measured"
try "reset history" 14 'reset history\n'
try "clean dead" 11 'clean dead\n'

# ---- each errno ----
N=0
# refused WHAT ERRNO TEXT WORD [FILE]: the write fails, does nothing, and error_log's last line has the WORD
refused() {
	local before after
	before=$(stat_of ctl_refused)
	try "$1" "$2" "$3" "${5:-$M/ctl}"
	after=$(stat_of ctl_refused)
	eq "$1: ctl_refused" $((before + 1)) "$after"
	case $(last_error) in
	*"$4"*) ;;
	*) eq "$1: error_log" "... $4 ..." "$(last_error)" ;;
	esac
	N=$((N + 1))
	made "$1" 0
	eq "$1: nothing was cleaned" 2 "$(stat_of live_buffers)"
}
refused "unknown command" EINVAL 'frobnicate\n' frobnicate
refused "upper case" EINVAL 'DUMP\n' DUMP
refused "a beginning is not a command" EINVAL 'dum\n' dum
refused "a longer word is not a command" EINVAL 'dumps\n' dumps
refused "two names" EINVAL 'dump a b\n' dump
refused "name with a slash" EINVAL 'dump a/b\n' a/b
refused "name .." EINVAL 'dump ..\n' ..
refused "scan with a word" EINVAL 'scan now\n' scan
refused "clean without a word" EINVAL 'clean\n' clean
refused "clean of no number" EINVAL 'clean bob\n' bob
refused "clean of half a number" EINVAL "clean ${PID}x\\n" "${PID}x"
refused "clean with another word" EINVAL "clean $PID please\\n" please
refused "clean dead force" EINVAL 'clean dead force\n' clean
refused "reset of something" EINVAL 'reset everything\n' everything
refused "reset device without a number" EINVAL 'reset device\n' reset
refused "reset device of no number" EINVAL 'reset device x\n' x
refused "log without a word" EINVAL 'log\n' log
refused "log of an unknown level" EINVAL 'log loud\n' loud
refused "a control character" EINVAL 'du\x01mp\n' ''
refused "a NUL" EINVAL 'dump\x00\n' ''
refused "clear with a word" EINVAL 'clear all\n' clear
refused "a number too large" ERANGE 'clean 99999999999999999999\n' 99999999999999999999
refused "a device out of range" ERANGE 'reset device 1024\n' 1024
refused "a device far out of range" ERANGE 'reset device 18446744073709551616\n' 18446744073709551616
refused "no such process" ESRCH 'clean 1\n' 1
refused "no such process, forced" ESRCH 'clean 1 force\n' 1
refused "no such device" ENODEV 'reset device 5\n' 5
refused "a live process" EBUSY "clean $PID\\n" "$PID"
refused "a live process, its own file" EBUSY 'clean\n' "$PID" "$M/pids/$PID/ctl"
refused "not a command of a process" EINVAL 'dump\n' dump "$M/pids/$PID/ctl"
refused "not a command of a process" EINVAL "clean $PID\\n" clean "$M/pids/$PID/ctl"

# 4096 bytes are taken, one more is not
eq "4096 bytes" 4096 "$(op fill "$M/ctl" 4096)"
eq "4097 bytes" E2BIG "$(op fill "$M/ctl" 4097)"
eq "100000 bytes" E2BIG "$(op fill "$M/ctl" 100000)"
eq "a megabyte" E2BIG "$(op fill "$M/ctl" 1048576)"

# ---- all lines are parsed before any is executed ----
refused "the second line is no command" EINVAL 'dump\nfrobnicate\n' frobnicate
refused "the last line is out of range" ERANGE 'dump\nscan\nreset device 4096\n' 4096
refused "an unknown word at the end" EINVAL 'dump\ndump\ndump a b' dump

# ---- executed up to the line that fails: its byte count, then the errno for the rest ----
try "line 2 fails" "5 ENODEV" 'dump\nreset device 9\ndump\n'
made "line 2 fails" 1
case $(last_error) in *9*) ;; *) eq "error_log" "... 9 ..." "$(last_error)" ;; esac
try "line 3 fails" "10 EBUSY" "dump\\nscan\\nclean $PID\\ndump\\n"
made "line 3 fails" 1
try "line 1 fails" ESRCH 'clean 1\ndump\n'
made "line 1 fails" 0
try "with comments before" "12 ENODEV" '# dump\ndump\nreset device 9\n'
made "with comments before" 1
echo "the message of a tool: $( { printf 'dump\nreset device 9\n' >"$M/ctl"; } 2>&1)" | grep -q 'No such device' ||
	fail "printf does not tell ENODEV"
made "printf with a failing line" 1

# ---- options ----
for option in history_per_buffer trace_events max_buffers max_clients min_age_ms min_size; do
	path=$M/options/$option
	value=$(cat "$path")
	like "$option is one number" '[0-9]+' "$value"
	eq "$option: one line" 1 "$(wc -l <"$path")"
	try "$option: what was read" $((${#value} + 1)) "$value\\n" "$path"
	refused "$option: no number" EINVAL 'many\n' many "$path"
	refused "$option: two numbers" EINVAL '1 2\n' "" "$path"
	like "$option: negative" 'EINVAL|ERANGE' "$(op write "$path" '-1\n')"
	refused "$option: too large" ERANGE '99999999999999999999999\n' "" "$path"
	refused "$option: nothing" EINVAL '\n' "" "$path"
	eq "$option: unchanged" "$value" "$(cat "$path")"
done
echo 20 >"$M/options/history_per_buffer" || fail "history_per_buffer"
eq "history_per_buffer" 20 "$(cat "$M/options/history_per_buffer")"
printf '  64  \n' >"$M/options/trace_events" || fail "trace_events"
eq "trace_events" 64 "$(cat "$M/options/trace_events")"
printf 1000 >"$M/options/max_buffers" || fail "max_buffers"
eq "max_buffers" 1000 "$(cat "$M/options/max_buffers")"

# ---- the ceiling is a defined, counted state ----
before=$(stat_of live_buffers)
say a fill 2 dram 0x100000 0x1000 1200 512
eq "live at the ceiling" 1000 "$(stat_of live_buffers)"
eq "lost beyond the ceiling" $((1200 - (1000 - before))) "$(stat_of events_lost)"
eq "device2 at the ceiling" "$((1000 - before))" "$(sum_row 2 dram | cut -d ' ' -f 1)"
say a unfill 2 0x100000 0x1000 1200
eq "after the frees" "$before" "$(stat_of live_buffers)"
say a alloc 2 dram 0x1 5
eq "there is room again" "$((before + 1))" "$(stat_of live_buffers)"
say a free 2 0x1

# ---- reading ctl tells the commands ----
for word in dump mark unmark clear scan clean reset log; do
	grep -q "$word" "$M/ctl" || fail "ctl does not tell about $word"
done
grep -q "clean" "$M/pids/$PID/ctl" || fail "pids/<pid>/ctl does not tell about clean"

# ---- the effects ----
say a alloc 3 l1 0x9000 1000000
say a free 3 0x9000
eq "peak before" "1 8192 1008192" "$(sum_row 3 l1 | cut -d ' ' -f 1-3)"
echo "reset peaks" >"$M/ctl"
eq "reset peaks" "1 8192 8192" "$(sum_row 3 l1 | cut -d ' ' -f 1-3)"
echo "reset device 3" >"$M/ctl"
eq "reset device" ENOENT "$(op stat "$M/device3")"
eq "the other device stays" "1 4096 4096" "$(sum_row 0 dram | cut -d ' ' -f 1-3)"
say a alloc 3 l1 0x2000 512
eq "the device comes back" "1 512 512 1 0" "$(sum_row 3 l1)"
echo "clean $PID force" >"$M/ctl"
eq "clean force" 0 "$(stat_of live_buffers)"
eq "clean force: rows" "" "$(rows "$M/allocs")"
say a alloc 0 dram 0x1000 4096
echo "clean force" >"$M/pids/$PID/ctl"
eq "its own file, force" 0 "$(stat_of live_buffers)"
say a alloc 0 dram 0x1000 4096
echo reset >"$M/ctl"
for counter in live_buffers live_bytes allocs_total frees_total events_total unknown_frees double_frees; do
	eq "reset: $counter" 0 "$(stat_of $counter)"
done
eq "reset: no device" "" "$(find "$M" -maxdepth 1 -name 'device*')"
say a alloc 0 dram 0x1000 4096
eq "the sender goes on" "1 4096 4096 1 0" "$(sum_row 0 dram)"

# ---- error_log keeps 64 lines ----
for i in 1 2 3 4 5 6 7 8; do
	printf 'dump\nwrong%s\n' "$i" >"$M/ctl" 2>/dev/null && fail "not refused"
done
eq "error_log: the last" "wrong8" "$(last_error | grep -o 'wrong[0-9]*')"
for i in $(seq 1 80); do
	op write "$M/ctl" "number$i" >/dev/null
done
eq "error_log: lines" 64 "$(wc -l <"$M/error_log")"
eq "error_log: the last of 80" "number80" "$(last_error | grep -o 'number[0-9]*')"
like "error_log: time first" '[0-9]+\.[0-9]{6} .*' "$(last_error)"

# ---- an unprivileged user ----
if [ "$ROOT" = yes ]; then
	SENDER_AS="setpriv --reuid $NOBODY --regid $NOBODY --clear-groups" sender_start other 72
	say other alloc 0 dram 0x7000 512
	OTHER=${SENDER_PID[other]}
	eq "uid of the record" $NOBODY "$(key "$M/device0/dram/0x000000007000" uid)"
	eq "owner of the record" "$NOBODY $NOBODY" "$(stat -c '%u %g' "$M/device0/dram/0x000000007000")"
	eq "owner of pids/<pid>/ctl" "$NOBODY" "$(stat -c %u "$M/pids/$OTHER/ctl")"
	eq "nobody: ctl" EACCES "$(op_nobody write "$M/ctl" 'clean dead\n')"
	eq "nobody: root's process" EACCES "$(op_nobody write "$M/pids/$PID/ctl" 'clean force\n')"
	eq "nobody: an option" EACCES "$(op_nobody write "$M/options/max_buffers" '1\n')"
	eq "nobody: rm of a dump" "EACCES" "$(echo 'dump mine' >"$M/ctl"; op_nobody unlink "$M/dumps/mine")"
	eq "nothing happened" "2" "$(stat_of live_buffers)"
	eq "nobody: its own process, live" EBUSY "$(op_nobody write "$M/pids/$OTHER/ctl" 'clean\n')"
	eq "nobody: its own process" 12 "$(op_nobody write "$M/pids/$OTHER/ctl" 'clean force\n')"
	eq "its buffer is forgotten" "" "$(rows "$M/pids/$OTHER/allocs")"
	sender_end other
fi

sender_end a
server_stop
