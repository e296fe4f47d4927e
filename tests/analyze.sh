#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# analyze.sh TTALLOC GOLDEN-DIRECTORY: the command line of ttalloc analyze, byte by byte against golden/analyze-*.txt.
#
# TTALLOC_GOLDEN_UPDATE=1 writes them anew: look at the difference before it is committed.

set -u
ttalloc=$(cd "$(dirname "$1")" && pwd)/$(basename "$1") || exit 1
golden=$(cd "$2" && pwd) || exit 1
t=$(mktemp -d) || exit 1
trap 'rm -rf "$t"' EXIT
cd "$golden" || exit 1
failures=0

fail() {
	echo "FAIL $*"
	failures=$((failures + 1))
}

# golden NAME ARGUMENT...: the output is golden/analyze-NAME.txt, the exit status 0
golden() {
	name=analyze-$1.txt
	shift
	"$ttalloc" analyze "$@" >"$t/out" 2>"$t/err" || fail "$*: exit status $?"
	[ -s "$t/err" ] && fail "$*: $(cat "$t/err")"
	if [ -n "${TTALLOC_GOLDEN_UPDATE-}" ]; then
		cp "$t/out" "$name"
	elif ! diff -u "$name" "$t/out"; then
		fail "$*: not as in $name"
	fi
}

# status WANTED ARGUMENT...: what it exits with; what it says stays in $t/out and $t/err
status() {
	want=$1
	shift
	"$ttalloc" "$@" >"$t/out" 2>"$t/err" </dev/null
	got=$?
	[ $got = "$want" ] || fail "$*: exit status $got, not $want"
}

# json EXPRESSION ARGUMENT...: the output is JSON, and of it (j) that is true
json() {
	expression=$1
	shift
	"$ttalloc" analyze --json "$@" >"$t/out" || fail "--json $*: exit status $?"
	python3 -m json.tool "$t/out" >/dev/null || fail "--json $*: no JSON"
	python3 -c 'import json, sys
j = json.load(open(sys.argv[1]))
sys.exit(not eval(sys.argv[2]))' "$t/out" "$expression" || fail "--json $*: not so: $expression"
}

# ---- for people ----

golden server analyze-server.log
golden enhanced analyze-enhanced.log
golden hex analyze-hex.log
golden detail analyze-detail.log
golden trace trace.txt
golden several --top 1 analyze-server.log analyze-enhanced.log
golden timeline --address 0x40000000 analyze-detail.log
golden timeline-decimal --address 1073741824 --device 0 analyze-server.log analyze-enhanced.log
golden timeline-none --address 0x40000000 --device 7 analyze-detail.log
golden device --device 2 analyze-detail.log
golden json --json analyze-detail.log
golden json-timeline --json --address 1073741824 --device 0 analyze-enhanced.log trace.txt

"$ttalloc" analyze - <analyze-server.log >"$t/out" || fail "standard input: exit status $?"
diff analyze-server.txt "$t/out" || fail "standard input"

# ---- several logs: by time ----

# A buffer that goes from one process to the next and back; each has a log of its own.
{
	echo '# time seq kind device type address size pid refs tid class caller tag'
	echo '10.000001 1 alloc 0 dram 0x40 100 5 - 5 - - first'
	echo '10.000005 2 alloc 0 dram 0x80 7 5 - 5 - - -'
	echo '10.000006 3 alloc 0 dram 0x40 100 5 - 5 - - third'
	echo '10.000004 4 free 0 - 0x80 - 5 - 5 - - -'
} >"$t/5.log"
{
	echo '# time seq kind device type address size pid refs tid class caller tag'
	echo '10.000002 1 free 0 - 0x40 - 6 - 6 - - -'
	echo '10.000003 2 alloc 0 dram 0x40 100 6 - 6 - - second'
	echo 'a line without a time'
	echo '10.000005 3 free 0 - 0x40 - 6 - 6 - - -'
	echo '10.000007 4 free 0 - 0x40 - 6 - 6 - - -'
	echo '10.000008 5 free 0 - 0x80 - 6 - 6 - - -'
} >"$t/6.log"
echo '[PID 9] Allocated 100 bytes of DRAM on device 0 (buffer_id=0x40)' >"$t/server.log"
order='[(e["pid"], e["line"]) for e in j["timeline"]]'
kinds='[e["kind"] for e in j["timeline"]]'
for logs in "$t/5.log $t/6.log" "$t/6.log $t/5.log"; do
	# shellcheck disable=SC2086 # two names
	json "$order == [(5, 2), (6, 2), (6, 3), (6, 5), (5, 4), (6, 6)]" --address 0x40 $logs
	# shellcheck disable=SC2086 # two names
	json "$kinds == ['alloc', 'foreign_free', 'alloc', 'free', 'alloc', 'double_free']" --address 0x40 $logs
	# The time of a line that was late does not count: the log's own order does.
	# shellcheck disable=SC2086 # two names
	json "$order == [(5, 3), (5, 5), (6, 7)]" --address 0x80 $logs
done
json "${order}[:2] == [(9, 1), (5, 2)]" --address 0x40 "$t/5.log" "$t/6.log" "$t/server.log"
json "$order == [(9, 1), (9, 1)]" --address 0x40 "$t/server.log" "$t/server.log"
# More than may be open, unless it asks for more.
i=0
set --
while [ $i -lt 100 ]; do
	echo "10.000$((200 - i)) 1 alloc 0 dram 0x$i 1 $((i + 1)) - 1 - - -" >"$t/many-$i.log"
	set -- "$@" "$t/many-$i.log"
	i=$((i + 1))
done
printf '#!/bin/sh\nexec prlimit --nofile=40:1000 "%s" "$@"\n' "$ttalloc" >"$t/with-few-files"
chmod +x "$t/with-few-files"
everything=$ttalloc
ttalloc=$t/with-few-files
json 'j["events"] == 100 and j["devices"][0]["leaked"]["bytes"] == 100' "$@"
ttalloc=$everything

# ---- exit statuses ----

status 0 --help
status 0 --version
status 0 analyze --help
status 2
status 2 analyse x
status 2 analyze
status 2 analyze --nonsense x
status 2 analyze --address
status 2 analyze --address 0x x
status 2 analyze --address 0x4g x
status 2 analyze --address -1 x
status 2 analyze --device -1 x
status 2 analyze --device 99999999999 x
status 2 analyze --top many x
[ -s "$t/err" ] && [ ! -s "$t/out" ] || fail "a wrong option is not said on standard error alone"
# said WANTED ARGUMENT...: on standard error, of a wrong usage
said() {
	words=$1
	shift
	status 2 "$@"
	[ "$(cat "$t/err")" = "ttalloc analyze: $words; see --help" ] || fail "$*: says $(cat "$t/err")"
}
said 'unknown option --nonsense' analyze --nonsense x
said 'unknown option -n' analyze -nonsense x
said 'unknown option -x' analyze -x x
said '--json takes no value' analyze --json=5 x
said '--top needs a value' analyze x --top
said 'standard input is given twice' analyze - x -
status 0 analyze analyze-server.log
status 23 analyze --fail-on-leak analyze-server.log
status 23 analyze --fail-on-leak --top 0 --json analyze-server.log
grep -v 'of TRACE' analyze-server.log | sed 's/PID 100 is dead/PID x/' >"$t/clean"
status 0 analyze --fail-on-leak "$t/clean"
status 23 analyze --fail-on-leak --device 1 analyze-server.log
status 0 analyze --fail-on-leak --device 3 analyze-server.log
# no green gate without everything seen
: >"$t/empty"
status 125 analyze --fail-on-leak "$t/empty"
grep -q '^ttalloc analyze: there are no events in the log$' "$t/err" || fail "no events: $(cat "$t/err")"
status 0 analyze "$t/empty"
echo '1700000000.000001 3 lost - - - 7 1 - 1 - - -' >"$t/lost"
status 125 analyze --fail-on-leak "$t/clean" "$t/lost"
grep -q '^ttalloc analyze: the log says that events are missing: ' "$t/err" || fail "lost events: $(cat "$t/err")"
status 0 analyze "$t/clean" "$t/lost"
status 23 analyze --fail-on-leak analyze-server.log "$t/lost"
status 125 analyze "$t/missing"
status 125 analyze "$t"
status 125 analyze --fail-on-leak analyze-server.log "$t/missing"
grep -q missing "$t/err" || fail "a log that is missing is not named"
grep -q '^Leaked: 1 buffer' "$t/out" || fail "one missing log hides the others"
"$ttalloc" analyze analyze-server.log >/dev/full 2>"$t/err"
[ $? = 125 ] || fail "output that cannot be written goes unnoticed"

# complains WORDS ARGUMENT...: of a log, which is no reason not to report the others
complains() {
	words=$1
	shift
	status 125 analyze --fail-on-leak "$@" analyze-server.log
	[ "$(cat "$t/err")" = "ttalloc analyze: $words" ] || fail "$*: says $(cat "$t/err")"
	grep -q '^Leaked: 1 buffer' "$t/out" || fail "$*: hides the others"
}
printf '\037\213\010\0\0\0\0\0' >"$t/log.gz"
printf '\3757zXZ\0\0' >"$t/log.xz"
printf '\050\265\057\375\0\0' >"$t/log.zst"
printf 'BZh91AY' >"$t/log.bz2"
how='unpack it, and give - to read that from a pipe'
complains "$t/log.gz: is packed with gzip; $how" "$t/log.gz"
complains "$t/log.xz: is packed with xz; $how" "$t/log.xz"
complains "$t/log.zst: is packed with zstd; $how" "$t/log.zst"
complains "$t/log.bz2: is packed with bzip2; $how" "$t/log.bz2"
echo 'root:x:0:0:root' >"$t/passwd"
complains "$t/passwd: nothing in it is understood; is it a log?" "$t/passwd"
"$ttalloc" analyze - <"$t/log.gz" >"$t/out" 2>"$t/err"
[ $? = 125 ] || fail "packed standard input: not said by the exit status"
grep -q '^ttalloc analyze: -: is packed with gzip; ' "$t/err" || fail "packed standard input: $(cat "$t/err")"

# ---- any bytes ----

# A last line that was cut off: only what cannot have lost a digit is believed.
cut_off() {
	head -1 trace.txt >"$t/cut"
	echo '1.000001 1 alloc 0 dram 0x10 7 5 1' >>"$t/cut"
	printf '%s' "$2" >>"$t/cut"
	json "j['events'] == $1 and j['not_understood'] == 2 - $1" "$t/cut"
}
cut_off 2 '1.000001 2 alloc 0 dram 0x40 1234 5 - 9 - - -'
cut_off 2 '[PID 1] Freed buffer 64 on device 0 (100 bytes, FINAL)'
cut_off 1 '1.000001 2 alloc 0 dram 0x40 1234 5 -'
cut_off 1 '1.000001 2 alloc 0 dram 0x40 1234 5 1'
cut_off 1 '1.000001 2 alloc 0 dram 0x40 1234 5 - 9'
cut_off 1 '[PID 1] Deallocation for unknown buffer 64'
cut_off 1 '[PID 1] Freed buffer 64 on device 0 (100 bytes, ref_count=1'
cut_off 1 '[PID 1] Buffer reused with DIFFERENT size: old=4096 new=8192 (buffer_id=64, device=1'
# Lines that end as on other systems.
sed 's/$/\r/' analyze-detail.log >"$t/crlf"
"$ttalloc" analyze --all "$t/crlf" >"$t/out" || fail "CRLF: exit status $?"
"$ttalloc" analyze --all analyze-detail.log | diff - "$t/out" || fail "CRLF"

# A line of 3 MB, one with a zero in it, bytes that are no UTF-8, and a last line without its end.
{
	head -c 3000000 /dev/zero | tr '\0' x
	printf '\n\0\n'
	printf '1.000001 1 alloc 0 dram 0x40 7 5 - 9 - \377\300\200"\\\302\033 \355\240\200\303\251\364\220\200\200\n'
	printf '[PID 1] Allocated 9 bytes of L1 on device 0 (buffer_id=0x50)'
	head -c 100000 /dev/zero | tr '\0' ' '
	printf '\n[PID 1] Allocated 9 bytes of L1 on device 0 (buffer_id=0x60)'
} >"$t/bytes"
json 'j["lines"] == 5 and j["events"] == 2 and j["not_understood"] == 3' "$t/bytes"
json 'j["devices"][0]["leaked"]["count"] == 2 and j["devices"][0]["leaked"]["bytes"] == 16' "$t/bytes"
json '"\u00e9" in [b["tag"] for b in j["devices"][0]["leaked"]["buffers"] if b["tag"]][0]' "$t/bytes"
: >"$t/empty"
json 'j["lines"] == 0 and j["devices"] == []' "$t/empty"
# A terminal gets no command: of control characters there is only the end of a line.
"$ttalloc" analyze "$t/bytes" >"$t/out" || fail "any bytes as text: exit status $?"
[ -z "$(tr -d '\n\40-\176\200-\377' <"$t/out")" ] || fail "control characters in the text"
grep -q '%FF%C0%80"\\%C2%1B' "$t/out" || fail "any bytes as text: $(cat "$t/out")"
"$ttalloc" analyze "$(printf 'miss\033[31ming')" 2>"$t/err" >"$t/out"
grep -q 'miss%1B\[31ming: ' "$t/err" || fail "control characters of a name: $(cat "$t/err")"
# A name with everything that has to be escaped.
name=$(printf 'a"b\\c\td\n\351.log')
cp analyze-hex.log "$t/$name"
json 'j["devices"][0]["leaked"]["buffers"][0]["log"].endswith("a\"b\\c\td\n\ufffd.log")' "$t/$name"
json 'len(j["devices"][0]["leaked"]["buffers"]) == 2 and j["devices"][0]["leaked"]["count"] > 2' --top 2 trace.txt
json 'len(j["devices"][0]["leaked"]["buffers"]) == j["devices"][0]["leaked"]["count"]' --all trace.txt

[ $failures = 0 ] && echo "analyze: ok"
exit $failures
