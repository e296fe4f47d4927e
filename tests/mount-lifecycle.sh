#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Start, refusals, death, restart, end.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1

version() { "$TTALLOCD" --version; }

# ---- --help, --version ----
"$TTALLOCD" --help >"$T/help" 2>"$T/help.err" || fail "--help: exit status $?"
eq "--help: nothing on standard error" "" "$(cat "$T/help.err")"
for option in --foreground --mount --socket --compat-socket --log --max-buffers --device --version --help; do
	grep -q -e "$option" "$T/help" || fail "--help does not tell about $option"
done
like "--version" 'ttallocd? [0-9]+\.[0-9]+\.[0-9]+.*' "$(version 2>&1)"
rc "--version" 0 version >/dev/null

# ---- refused: one line in words, exit status 2, nothing left behind ----
# refused WHAT WORD ARGUMENT...: with the usual mountpoint and sockets, unless ARGUMENTs say otherwise
refused() {
	local what=$1 word=$2
	shift 2
	"$TTALLOCD" --mount "$M" --socket "$S" --compat-socket "$C" "$@" </dev/null >"$T/out" 2>"$T/err"
	eq "$what: exit status" 2 $?
	eq "$what: nothing on standard output" "" "$(cat "$T/out")"
	eq "$what: one line on standard error" 1 "$(wc -l <"$T/err")"
	grep -qF -e "$word" "$T/err" || eq "$what: the reason" "... $word ..." "$(cat "$T/err")"
	[ -n "${SERVING:-}" ] && return
	is_mounted "$M" && fail "$what: mounted"
	eq "$what: nothing left" "" "$(names "$T/run")"
	eq "$what: no process left" "" "$(our_processes)"
}
refused "unknown option" frobnicate --frobnicate
refused "an argument that is no option" something something
refused "no value" mount --mount
refused "not a number" many --max-buffers many
refused "zero buffers" 0 --max-buffers 0
refused "far too many buffers" 99999999999999999999 --max-buffers 99999999999999999999
refused "unknown level" loud --log loud
refused "not a device" junk --device junk
refused "not a device" 1024 --device 1024:dram=1
refused "not a capacity" big --device 0:dram=big
refused "not a key" sram --device 0:sram=1
refused "not an architecture" Pentium --device 0:arch=Pentium
mkdir "$T/full"
echo precious >"$T/full/file"
refused "a directory that is not empty" "$T/full" --mount "$T/full"
eq "its content" "precious" "$(cat "$T/full/file")"
refused "a file as mountpoint" "$T/full/file" --mount "$T/full/file"
refused "no such mountpoint" "$T/full/file/x" --mount "$T/full/file/x"
echo precious >"$T/notasocket"
refused "a file at the socket's path" "$T/notasocket" --socket "$T/notasocket"
eq "its content" "precious" "$(cat "$T/notasocket")"
refused "a file at the compat socket's path" "$T/notasocket" --compat-socket "$T/notasocket"
eq "its content" "precious" "$(cat "$T/notasocket")"
refused "a directory at the socket's path" "$T/full" --socket "$T/full"
refused "a socket where none can be" "$T/notasocket" --socket "$T/notasocket/x"
long=$T/$(printf '%0120d' 0)
refused "a path too long for a socket" "$(printf '%0120d' 0)" --socket "$long"

# ---- a living socket is refused, a dead one replaced ----
mkfifo "$T/listening"
"$PYTHON" - "$C" >"$T/listening" <<'END' &
import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()
print("listening", flush=True)
s.accept()
END
holder=$!
read -r word <"$T/listening"
eq "somebody listens" listening "$word"
"$TTALLOCD" --mount "$M" --socket "$S" --compat-socket "$C" </dev/null >"$T/out" 2>"$T/err"
eq "a socket where somebody listens: exit status" 2 $?
eq "a socket where somebody listens: one line" 1 "$(wc -l <"$T/err")"
grep -qw "$holder" "$T/err" || eq "a socket where somebody listens: its pid" "... $holder ..." "$(cat "$T/err")"
is_mounted "$M" && fail "a socket where somebody listens: mounted"
eq "the other socket was taken back" "no" "$([ -e "$S" ] && echo yes || echo no)"
kill -KILL $holder 2>/dev/null
wait $holder 2>/dev/null
eq "the file of a dead socket is still there" yes "$([ -S "$C" ] && echo yes || echo no)"
server_start
sender_start a 72
say a alloc 0 dram 0x1000 4096
eq "a dead socket was replaced" 1 "$(stat_of live_buffers)"
sender_end a

# ---- a second server ----
FIRST=$SERVER
SERVING=yes
refused "a second server, same mountpoint" "$FIRST" --socket "$T/run/s2" --compat-socket "$T/run/c2"
eq "no sockets of the second" "" "$(find "$T/run" -name '?2')"
mkdir "$T/mnt2"
refused "a second server, same sockets" "$FIRST" --mount "$T/mnt2"
is_mounted "$T/mnt2" && fail "the second server mounted"
refused "a second server, same compat socket" "$FIRST" --mount "$T/mnt2" --socket "$T/run/s2"
eq "no sockets of the second" "" "$(find "$T/run" -name '?2')"
SERVING=
eq "the first one is untouched" "$FIRST" "$(server_pid "$M")"
eq "and its socket works" "ready" "$(sender_start b 72; echo "${ANSWER%% *}"; sender_end b)"
# two servers, nothing shared: both work
server_try "$T/mnt2" "$T/run/s2" "$T/run/c2" || fail "a second server beside the first"
SECOND=$(server_pid "$T/mnt2")
SERVERS+=("$SECOND")
SENDER_SOCKET=$T/run/c2 sender_start c 72
say c alloc 9 dram 0x1 1
eq "the second one's" 1 "$(key "$T/mnt2/stats" live_buffers)"
eq "not the first one's" ENOENT "$(op stat "$M/device9")"
sender_end c
kill -TERM "$SECOND"
wait_pid "$SECOND" 10 || fail "the second server did not end"
is_mounted "$T/mnt2" && fail "the second one's mount is left"
rmdir "$T/mnt2" || fail "mnt2"
server_stop

# ---- sockets switched off ----
server_try "$M" "$S" none || fail "--compat-socket none"
SERVER=$(server_pid "$M")
SERVERS+=("$SERVER")
eq "no compat socket" "native.sock" "$(ls "$T/run")"
server_stop
server_try "$M" none "$C" || fail "--socket none"
SERVER=$(server_pid "$M")
SERVERS+=("$SERVER")
eq "no native socket" "compat.sock" "$(ls "$T/run")"
server_stop

# ---- foreground ----
mkfifo "$T/err.fifo"
"$TTALLOCD" --foreground --mount "$M" --socket "$S" --compat-socket "$C" </dev/null >"$T/out" 2>"$T/err.fifo" &
job=$!
exec {err}<"$T/err.fifo"
# it says on standard error when the mount answers; a reader of a pipe needs no other way to know
until is_mounted "$M" && grep -q ' pid ' "$M/version" 2>/dev/null; do
	IFS= read -r -u "$err" line || break
done
eq "foreground: the server is the process that was started" "$job" "$(server_pid "$M")"
kill -TERM $job
wait $job
eq "foreground: SIGTERM, exit status" 0 $?
cat <&"$err" >>"$LOG"
exec {err}<&-
server_gone
"$TTALLOCD" --foreground --mount "$M" --socket "$S" --compat-socket "$C" </dev/null >"$T/out" 2>"$T/err.fifo" &
job=$!
exec {err}<"$T/err.fifo"
until is_mounted "$M" && grep -q ' pid ' "$M/version" 2>/dev/null; do
	IFS= read -r -u "$err" line || break
done
# bash starts background processes with SIGINT ignored; a server that wants it has to ask for it
kill -INT $job
wait $job
eq "foreground: SIGINT, exit status" 0 $?
cat <&"$err" >>"$LOG"
exec {err}<&-
server_gone

# ---- SIGTERM with a parked reader, an open file, a shell inside, a connected client ----
server_start
sender_start a 144
say a alloc 0 dram 0x1000 4096
mkfifo "$T/lines" "$T/inside" "$T/go"
cat "$M/events" >"$T/lines" &
reader=$!
exec {lines}<"$T/lines"
first=
while [ -z "$first" ]; do
	say a alloc 0 dram 0x1000 4096
	IFS= read -r -t 0 -u "$lines" && IFS= read -r -u "$lines" first
done
# the last line has been printed: what it reads now has to wait
say a alloc 0 dram 0xeeee000 4096
while IFS= read -r -u "$lines" line; do
	case $line in *" 0x00000eeee000 "*) break ;; esac
done
parked $reader || fail "cat events does not wait"
exec {held}<"$M/device0/summary"
IFS= read -r _ <&"$held"
(cd "$M/device0/dram" && echo inside >"$T/inside" && read -r _ <"$T/go") &
shell=$!
read -r word <"$T/inside"
eq "a shell stands inside" inside "$word"
kill -TERM "$SERVER"
wait_pid "$SERVER" 2 || fail "SIGTERM: not gone within 2 s"
server_gone
cat <&"$lines" >/dev/null # the end of the parked reader's output
wait $reader
eq "the parked reader ended as at the end of a file" 0 $?
exec {lines}<&-
eq "the mountpoint is empty" "" "$(ls -A "$M")"
say a closed
eq "the client's connection was closed" closed "$ANSWER"
# the same mountpoint serves again while file and shell still hold the old one
server_start
eq "again, with the old ones held" 0 "$(stat_of live_buffers)"
exec {held}<&-
echo go >"$T/go"
wait $shell
say a connect
say a alloc 0 dram 0x5000 1
eq "the client reconnects" 1 "$(stat_of live_buffers)"
sender_end a
server_stop

# ---- kill -9 and again, ten times, with things held ----
server_start
instances=$(sed 's/.* instance \([^ ]*\).*/\1/' "$M/version")
for i in 1 2 3 4 5 6 7 8 9 10; do
	sender_start k$i 72
	say k$i alloc 0 dram 0x1000 4096
	exec {held}<"$M/stats"
	(cd "$M/device0" && echo inside >"$T/inside" && read -r _ <"$T/go") &
	shell=$!
	read -r word <"$T/inside"
	old=$SERVER
	kill -KILL "$SERVER"
	wait_pid "$SERVER" 10 || fail "kill -9"
	[ $i != 1 ] || eq "a dead mount" ENOTCONN "$(op stat "$M/version")"
	server_start
	[ "$SERVER" != "$old" ] || fail "the same pid after a restart"
	eq "restart $i: empty tables" 0 "$(stat_of live_buffers)"
	say k$i connect
	say k$i alloc 0 dram 0x1000 100
	eq "restart $i: takes events" "1 100" "$(sum_row 0 dram | cut -d ' ' -f 1,2)"
	eq "restart $i: one mount" 1 "$(grep -cF " $M " /proc/self/mountinfo)"
	exec {held}<&-
	echo go >"$T/go"
	wait $shell
	sender_end k$i
	instances="$instances $(sed 's/.* instance \([^ ]*\).*/\1/' "$M/version")"
done
eq "instances are different" 11 "$(tr ' ' '\n' <<<"$instances" | sort -u | wc -l)"
like "version" "ttalloc [0-9]+\.[0-9]+\.[0-9]+ abi 1 pid $SERVER instance [0-9a-f]{8,} socket /.* compat_socket /.*" "$(cat "$M/version")"

# ---- SIGUSR1 is dump: in dumps/ and, whole, in the log ----
server_stop
: >"$LOG"
server_start
sender_start a 144
say a alloc 0 dram 0x40000000 12288
say a alloc 0 l1 0x100 512
exec {events}<"$M/events"
kill -USR1 "$SERVER"
while IFS= read -r -u "$events" line; do
	case $line in *" dump "*) break ;; esac
done
exec {events}<&-
eq "SIGUSR1: a dump" 1 "$(find "$M/dumps" -mindepth 1 | wc -l)"
dump=$(ls "$M/dumps")
cp "$M/dumps/$dump" "$T/dump1"
like "the dump's first line" 'REMAINING ALLOCATED BUFFERS  [0-9-]{10} [0-9:]{8}  ttalloc [0-9.]+' "$(head -n 1 "$T/dump1")"
eq "the dump's buffers" 2 "$(grep -c "^    - Buffer 0x" "$T/dump1")"
grep -qF "    - Buffer 0x000040000000: 12.0 KB (PID ${SENDER_PID[a]} " "$T/dump1" || fail "the dump: $(cat "$T/dump1")"
grep -qF "  DRAM: 1 buffers, 0.012288 MB total" "$T/dump1" || grep -qF "  DRAM: 1 buffer, 0.012288 MB total" "$T/dump1" ||
	fail "the dump's DRAM line: $(grep DRAM "$T/dump1")"
eq "the dump's last line" "Total remaining buffers: 2" "$(tail -n 1 "$T/dump1")"
echo "dump named" >"$M/ctl"
cp "$M/dumps/named" "$T/dump2"
eq "a dump does not change" "$(sha256sum <"$T/dump1")" "$(sha256sum <"$M/dumps/$dump")"
# the log, when the write has returned
eq "the log has both" 2 "$(grep -c '^REMAINING ALLOCATED BUFFERS' "$LOG")"
py - "$LOG" "$T/dump1" "$T/dump2" <<'END' || fail "a dump is not whole in the log"
import sys
log = open(sys.argv[1], encoding="utf-8", errors="replace").read()
sys.exit(not all(open(name, encoding="utf-8").read().rstrip("\n") in log for name in sys.argv[2:]))
END
# messages 5 and 12 are dump, too; as any event, they have happened when the next file is opened
rm -f "$M"/dumps/*
for i in 1 2 3 4 5 6 7 8; do
	say a dump
	eq "message 5: dumps" $((2 * i - 1)) "$(find "$M/dumps" -mindepth 1 | wc -l)"
	say a dumpkernels
	eq "message 12: dumps" $((2 * i)) "$(find "$M/dumps" -mindepth 1 | wc -l)"
done
sender_end a
server_stop

# ---- capacities from the command line ----
server_start --device 0:dram=12884901888,l1=100000,arch=wormhole_b0 --device 3:dram=1000
eq "devices by declaration" "device0 device3" "$(names "$M" | tr ' ' '\n' | grep device | xargs)"
sender_start a 112
say a alloc 0 dram 0x1000 1288490188
eq "capacity and share" "dram 1 1288490188 1288490188 12884901888 10.00 1 0" "$(sed -n '/^dram/p' "$M/device0/summary")"
eq "no capacity" "trace 0 0 0 - - 0 0" "$(sed -n '/^trace/p' "$M/device0/summary")"
say a info -1
eq "number of devices" "7 -1 1 4" "$(tr ' ' '\n' <<<"$ANSWER" | sed -n 's/^\(type\|device\|is_available\|num_devices\)=//p' | xargs)"
say a info 0
eq "capacity of device 0" "12884901888 100000 2" \
	"$(tr ' ' '\n' <<<"$ANSWER" | sed -n 's/^\(total_dram\|total_l1\|arch\)=//p' | xargs)"
say a query 0
eq "query" "4 0 1288490188 0" "$(tr ' ' '\n' <<<"$ANSWER" | sed -n 's/^\(type\|device\|dram\|l1\)=//p' | xargs)"
eq "info" "device 0
arch wormhole_b0
dram_capacity 12884901888
l1_capacity 100000
buffers 1
bytes 1288490188
peak 1288490188" "$(cat "$M/device0/info")"
# df: capacity in blocks, so up to a block less or more
block=$(stat -f -c %S "$M")
near() { [ $(($2 - block * 4)) -le "$3" ] && [ "$3" -le $(($2 + block * 4)) ] || fail "$1: expected about $2, got $3"; }
near "df: size" $((12884901888 + 100000 + 1000)) "$(df -B1 --output=size "$M" | tail -n 1 | xargs)"
near "df: used" 1288490188 "$(df -B1 --output=used "$M" | tail -n 1 | xargs)"
say a alloc 0 dram 0x60000000 0x1000
say a alloc 0 dram 0x60001000 0x1000
say a alloc 0 dram 0x60008000 0x800
say a alloc 0 l1 0x60000000 100
eq "map" "# start end bytes state type seq
0x000000001000 0x00004cccdccc 1288490188 used dram N
0x00004cccdccc 0x000060000000 322118452 free dram -
0x000060000000 0x000060001000 4096 used dram N
0x000060001000 0x000060002000 4096 used dram N
0x000060002000 0x000060008000 24576 free dram -
0x000060008000 0x000060008800 2048 used dram N
0x000060008800 0x000300000000 11274254336 free dram -
0x000060000000 0x000060000064 100 used l1 N" "$(sed -E 's/ [0-9]+$/ N/' "$M/device0/map")"
sender_end a
server_stop
