#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# ttalloc run, leaks and diff with real servers: private ones, and one that is shared with others.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1
[ -x "$TTALLOC_WORKLOAD" ] || die "no ttalloc-workload; set TTALLOC_WORKLOAD or give the build directory"
TTALLOC=${TTALLOC:-$(find_binary ttalloc)}
[ -x "$TTALLOC" ] || die "no ttalloc; set TTALLOC or give the build directory"
COMPAT=/tmp/tt_allocation_server.sock
unset TTALLOC_SOCKET TT_ALLOC_TRACKING_ENABLED
# Private servers have their place here; nothing may be left in it.
export TMPDIR=$T/tmp TTALLOC_MOUNT=$T/nowhere HOME=$T XDG_CONFIG_HOME=
mkdir -m 777 "$TMPDIR"
had_compat=$([ -e $COMPAT ] && echo yes)

# leaker COUNT SIZE [SOCKET]: prints a shell command whose process leaves that many buffers of device 0, as existing
# clients report them
leaker() {
	echo "{ i=0; while [ \$((i += 1)) -le $1 ]; do echo alloc 0 dram \$((i * 65536)) $2; done; echo quit; } |" \
		"'$PYTHON' '$TTSEND' --socket '${3:-\$TTALLOC_SOCKET}' --dialect 144 >/dev/null"
}
# The variable is the command's.
quoted() { sed "s/'\\\$TTALLOC_SOCKET'/\"\$TTALLOC_SOCKET\"/"; }
leak() { leaker "$@" | quoted; }

# run STATUS ARGUMENT...: its standard error is in $T/err
run() {
	local want=$1 got
	shift
	"$TTALLOC" run "$@" 2>"$T/err" </dev/null
	got=$?
	eq "run $*: exit status" "$want" $got || sed 's/^/    /' "$T/err"
}
# says REGEX, says_not REGEX: a line of what the last run said
says() { grep -qE -- "$1" "$T/err" || fail "not said: $1; but: $(cat "$T/err")"; }
says_not() { ! grep -qE -- "$1" "$T/err" || fail "said: $1: $(cat "$T/err")"; }
# dead_compat: says so if the socket is there and nobody listens. (Another one's server may have it by now.)
dead_compat() {
	py -c 'import socket, sys
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
except ConnectionRefusedError:
    print("dead")
except OSError:
    pass' $COMPAT
}
# nothing_left WHAT
nothing_left() {
	eq "$1: left in TMPDIR" "" "$(ls -A "$TMPDIR")"
	eq "$1: mounts" 0 "$(grep -cF " $TMPDIR/" /proc/self/mountinfo)"
	[ -n "$had_compat" ] || eq "$1: the compat socket" "" "$(dead_compat)"
	eq "$1: processes" "$([ -z "${SERVER:-}" ] || echo "$SERVER")" "$(our_processes | grep -vxF "${KEEP:-none}")"
}

# ---- statuses, on private servers ----
run 0 true
says '^ttalloc run: no leaks; 0 processes reported$'
says '^nothing that the command ran has reported'
# A gate is not to be passed by who is not seen.
run 125 --fail-on-leak true
says '^ttalloc run: error: nothing that the command ran has reported to ttallocd: is it built with a client\?$'
says '^ttalloc run: nothing is known to leak; 0 processes reported$'
run 125 --exit-code 7 true
run 3 --fail-on-leak sh -c 'exit 3'
run 0 --fail-on-leak --allow-silent true
says '^ttalloc run: no leaks; 0 processes reported$'
says_not 'nothing that the command ran has reported'
run 125 --write-baseline "$T/nothing" true
eq "nothing is no baseline" no "$([ -e "$T/nothing" ] && echo yes || echo no)"
# shellcheck disable=SC2016
run 125 sh -c "$(leak 1 10); rm \"\$TTALLOC_SOCKET\""
says '^ttalloc run: error: the socket of ttallocd was removed while the command ran: '
says '^ttalloc run: 1 buffer, 10 bytes leaked at 1 place; 1 process reported$'
run 23 --fail-on-leak sh -c "$(leak 1 10); mv \"\$TTALLOC_SOCKET\" \"\$TTALLOC_SOCKET.old\"; rm \"\$TTALLOC_SOCKET.old\""
# shellcheck disable=SC2016
run 3 sh -c 'rm "$TTALLOC_SOCKET"; exit 3'
if [ -z "$had_compat" ]; then
	run 125 --allow-silent --fail-on-leak rm $COMPAT
	says 'the socket of ttallocd was removed'
fi
run 125 -xyz true
says 'unknown option -x; see --help'
nothing_left "true"
run 0 -- "$TTALLOC_WORKLOAD" --steps 3 >"$T/out"
says '^ttalloc run: no leaks; 1 process reported$'
says_not 'has reported'
run 0 --fail-on-leak -- "$TTALLOC_WORKLOAD" --steps 3 >"$T/out"
run 0 -- "$TTALLOC_WORKLOAD" --steps 3 --leak 2 >"$T/out"
says '^2 buffers, 8192 bytes \(8.0 KiB\)  dram of device 0: died$'
says '^    #1 leak@workload-model.c:[0-9]*$'
says 'tag scratch$'
says '^ttalloc run: 2 buffers, 8192 bytes \(8.0 KiB\) leaked at 1 place; 1 process reported$'
run 23 --fail-on-leak "$TTALLOC_WORKLOAD" --steps 3 --leak 2 >"$T/out"
run 7 --exit-code 7 "$TTALLOC_WORKLOAD" --steps 3 --leak 2 >"$T/out"
run 3 sh -c 'exit 3'
says_not 'has left processes running'
# shellcheck disable=SC2016
run 0 sh -c '"$0" -c "import signal; signal.pause()" >/dev/null 2>&1 & echo $!' "$PYTHON" >"$T/out"
says '^the command has left processes running, which were not waited for$'
kill "$(cat "$T/out")"
run 3 --fail-on-leak sh -c "$(leak 3 100); exit 3"
says '^ttalloc run: 3 buffers, 300 bytes leaked at 1 place'
run 137 --fail-on-leak sh -c 'kill -KILL $$'
run 23 --fail-on-leak "$TTALLOC_WORKLOAD" --steps 50 --die-after 200 >"$T/out"
says '^ttalloc run: [0-9]* buffers, .* leaked'
# What is freed twice, or never was there, is told, and is no leak.
run 0 --fail-on-leak "$TTALLOC_WORKLOAD" --steps 3 --double-free 2 --unknown-free 3 >"$T/out"
says '^2 double frees: of what had been freed before$'
says '^    2 at [0-9a-f]{16}, 0x[0-9a-f]{12} of device 0 and others$'
says '^    #[01] .*(model_drop_again|free_twice)'
says '^3 frees of what ttallocd never heard of: normal for what is older than it$'
says_not 'other process'
run 127 --fail-on-leak /nowhere/command
says '^ttalloc run: /nowhere/command: No such file or directory$'
run 127 nowhere-command
run 126 "$T"
: >"$T/no-program"
run 126 "$T/no-program"
nothing_left "statuses"
run 125 --fail-on-leak=yes true
says '^ttalloc run: no value goes with --fail-on-leak=yes; see --help$'
TMPDIR=$T/nowhere run 125 true
says "^ttalloc run: no private server: $T/nowhere: No such file or directory$"
for bad in --nonsense --report --exit-code=0 --exit-code=x --exit-code=256 --format=html; do
	run 125 $bad
done
run 125
run 125 --
run 125 --private --mount "$M" true
run 125 --mount "$T/nowhere" true
says "^ttalloc run: no ttallocd at $T/nowhere: "
run 125 --mount "$T" true
# A terminal is not shown what it would take for a command.
esc=$(printf '\033')
for bad in "--${esc}[1m" "--format=$esc" "--mount=$esc" "--report=/$esc/x" "--known=$esc" "--baseline=$T/$esc"; do
	printf '%s\n' 'a b c' >"$T/$esc"
	run 125 "$bad" true
	says '%1B'
	says_not "$esc"
done
run 127 "$T/no-$esc"
says "^ttalloc run: $T/no-%1B: "
"$TTALLOC" "$esc" 2>"$T/err"
says '^ttalloc: unknown command %1B; see --help$'
"$TTALLOC" diff "$esc" 2>"$T/err"
says '^ttalloc diff: %1B: No such file'
"$TTALLOC" leaks "$esc" 2>"$T/err"
says '^ttalloc leaks: unexpected %1B; see --help$'
rm "$T/$esc"
rc "run --help" 0 "$TTALLOC" run --help >"$T/out"
nothing_left "usage"

# ---- what the command is given ----
# shellcheck disable=SC2016
run 0 sh -c 'echo "$TT_ALLOC_TRACKING_ENABLED"; test -S "$TTALLOC_SOCKET" && cut -d " " -f 1 "$TTALLOC_MOUNT/version"
	stat -c %a "${TTALLOC_MOUNT%/mnt}"; echo "${NOTIFY_SOCKET-none}"; echo "$0"' 'a  b' >"$T/out"
eq "environment" "1 ttalloc 700 none a b" "$(xargs <"$T/out")"
echo word | "$TTALLOC" run cat >"$T/out" 2>"$T/err"
eq "standard input and output" word "$(cat "$T/out")"
# shellcheck disable=SC2016
run 0 "$PYTHON" -c 'import signal; print(*sorted(map(int, signal.pthread_sigmask(0, []))))' >"$T/out"
eq "signal mask" "" "$(cat "$T/out")"
if [ -z "$had_compat" ]; then
	run 23 --fail-on-leak sh -c "$(leaker 2 50 $COMPAT)"
	says '^2 buffers, 100 bytes  dram of device 0: died$'
fi

# ---- files ----
touch_it="touch $T/it-ran"
echo 'leak:^scratch$' >"$T/suppressions"
run 0 --fail-on-leak --suppressions "$T/suppressions" "$TTALLOC_WORKLOAD" --steps 3 --leak 2 >"$T/out"
says '^suppressed: 2 buffers, 8192 bytes \(8.0 KiB\) by leak:\^scratch\$$'
says '^ttalloc run: no leaks; 2 buffers suppressed; 1 process reported$'
echo 'leak:^leak@workload-model.c' >"$T/suppressions"
run 0 --fail-on-leak --suppressions "$T/suppressions" "$TTALLOC_WORKLOAD" --steps 3 --leak 2 >"$T/out"
echo leek >"$T/suppressions"
run 125 --suppressions "$T/suppressions" sh -c "$touch_it"
says "^ttalloc run: $T/suppressions:1: not 'leak:PATTERN'$"
run 125 --suppressions "$T/none" sh -c "$touch_it"
for option in suppressions baseline known; do
	printf '#\n# \0\n' >"$T/nul"
	run 125 --$option "$T/nul" sh -c "$touch_it"
	says "^ttalloc run: $T/nul:2: a NUL byte: this is no text$"
done
run 125 --baseline "$T/none" sh -c "$touch_it"
run 125 --known "$T/suppressions" sh -c "$touch_it"
run 125 --report "$T/none/report" sh -c "$touch_it"
says "^ttalloc run: $T/none/report: No such file or directory$"
run 125 --report "" sh -c "$touch_it"
run 125 --write-baseline "" sh -c "$touch_it"
run 125 --write-baseline "$T" sh -c "$touch_it"
eq "a file that cannot be used: the command did not run" no "$([ -e "$T/it-ran" ] && echo yes || echo no)"
run 125 --report /dev/full true
run 0 --fail-on-leak --write-baseline "$T/baseline" "$TTALLOC_WORKLOAD" --steps 3 --leak 2 >"$T/out"
eq "the baseline" "2 8192" "$(grep -v '^#' "$T/baseline" | cut -d ' ' -f 2,3)"
grep -q ' model_make,leak,.*,main,' "$T/baseline" || grep -q ' model_make,leak,.*,main$' "$T/baseline" ||
	fail "the baseline has no names: $(cat "$T/baseline")"
run 0 --fail-on-leak --baseline "$T/baseline" "$TTALLOC_WORKLOAD" --steps 3 --leak 2 >"$T/out"
says '^    known: 2 buffers, 8192 bytes are in the baseline$'
says 'leaked at 1 place; 0 of the places are more than the baseline: 0 buffers'
run 0 --fail-on-leak --baseline "$T/baseline" "$TTALLOC_WORKLOAD" --steps 3 --leak 1 >"$T/out"
run 23 --fail-on-leak --baseline "$T/baseline" "$TTALLOC_WORKLOAD" --steps 4 --leak 3 >"$T/out"
says '^    more than known: 2 buffers, 8192 bytes are in the baseline$'
run 0 --fail-on-leak --baseline "$T/baseline" "$TTALLOC_WORKLOAD" --steps 3 >"$T/out"
says '^the baseline has 1 line that was not seen this time$'
# from before there were tags in it
sed 's,/scratch , ,' "$T/baseline" >"$T/tagless"
grep -q '^[0-9a-f]*/dram 2 8192 ' "$T/tagless" || fail "no key without a tag: $(cat "$T/tagless")"
run 0 --fail-on-leak --baseline "$T/tagless" "$TTALLOC_WORKLOAD" --steps 3 --leak 2 >"$T/out"
run 23 --fail-on-leak --baseline "$T/tagless" "$TTALLOC_WORKLOAD" --steps 3 --leak 3 >"$T/out"
# as another build has them: other numbers, the same functions
sed 's,^[0-9a-f]*/,0123456789abcdef/,' "$T/baseline" >"$T/rebuilt"
run 0 --fail-on-leak --baseline "$T/rebuilt" "$TTALLOC_WORKLOAD" --steps 3 --leak 2 >"$T/out"
sed -i 's/make,leak/make,lake/' "$T/rebuilt"
run 23 --fail-on-leak --baseline "$T/rebuilt" "$TTALLOC_WORKLOAD" --steps 3 --leak 2 >"$T/out"
cp "$T/baseline" "$T/baseline.old"
run 127 --baseline "$T/baseline" --write-baseline "$T/baseline" /nowhere/command
same "a run that did not happen leaves the baseline" "$T/baseline.old" "$T/baseline"
echo old >"$T/report"
run 127 --report "$T/report" /nowhere/command
eq "a run that did not happen leaves the report" old "$(cat "$T/report")"
# files are replaced, with their rights, and where links lead; others are written into
mkdir "$T/out.d"
echo old >"$T/out.d/report"
chmod 640 "$T/out.d/report"
ln -s out.d/report "$T/link"
run 0 --report "$T/link" --write-baseline "$T/out.d/new" --allow-silent true
eq "a replaced file" "640 new report" "$(stat -c %a "$T/out.d/report") $(names "$T/out.d")"
eq "a link stays" out.d/report "$(readlink "$T/link")"
ln -s link-2 "$T/link-1"
ln -s "$T/out.d/later" "$T/link-2"
run 0 --report "$T/link-1" true
eq "a link to what is not there yet" "link-2 yes" "$(readlink "$T/link-1") $([ -f "$T/out.d/later" ] && echo yes)"
rm "$T/link-1" "$T/link-2" "$T/out.d/later"
eq "the report of nothing" "ttalloc run: no leaks; 0 processes reported" "$(tail -n 1 "$T/out.d/report")"
eq "a new file's rights" "$(printf '%o' $((0666 & ~$(umask))))" "$(stat -c %a "$T/out.d/new")"
mkfifo "$T/fifo"
cat "$T/fifo" >"$T/out" &
run 0 --report "$T/fifo" true
wait $!
eq "a pipe as report" "ttalloc run: no leaks; 0 processes reported" "$(tail -n 1 "$T/out")"
run 0 --report /dev/stdout echo before >"$T/out"
eq "/dev/stdout as report" "before ttalloc run: no leaks; 0 processes reported" "$(sed -n '1p;$p' "$T/out" | xargs)"
# one file for two things
cd "$T" || exit 1
run 125 --report baseline --baseline ./baseline sh -c "$touch_it"
says '^ttalloc run: --report and --baseline are the same file: ./baseline$'
run 125 --report "$T/link" --suppressions out.d/report sh -c "$touch_it"
says '^ttalloc run: --report and --suppressions are the same file: out.d/report$'
run 125 --report out.d/none --write-baseline "$T/out.d/../out.d/none" sh -c "$touch_it"
says '^ttalloc run: --report and --write-baseline are the same file: '
run 125 --report - --write-baseline - sh -c "$touch_it"
run 125 --known "$T/report" --write-baseline "report" sh -c "$touch_it"
says '^ttalloc run: --write-baseline and --known are the same file: '
cd / || exit 1
eq "one file for two things: the command did not run" no "$([ -e "$T/it-ran" ] && echo yes || echo no)"
cp "$T/baseline" "$T/again"
run 0 --fail-on-leak --baseline "$T/again" --write-baseline "$T/again" "$TTALLOC_WORKLOAD" --steps 3 --leak 3 >"$T/out"
eq "a baseline is written anew" "3 12288" "$(grep -v '^#' "$T/again" | cut -d ' ' -f 2,3)"
# the report says what the status says
run 0 --fail-on-leak --write-baseline "$T/again" --format junit --report "$T/report" \
	"$TTALLOC_WORKLOAD" --steps 3 --leak 3 >"$T/out"
grep -q ' tests="2" failures="0" errors="0" skipped="1" ' "$T/report" || fail "a baseline's report fails: $(cat "$T/report")"
run 0 --fail-on-leak --write-baseline "$T/again" --format json --report "$T/report" \
	"$TTALLOC_WORKLOAD" --steps 3 --leak 3 >"$T/out"
grep -q '"failing": {"count": 0, "bytes": 0}' "$T/report" || fail "a baseline's report fails: $(cat "$T/report")"
mkdir -p "$T/.config/ttalloc"
echo 'mine: size=4K tag=scratch: what I always forget' >"$T/.config/ttalloc/known.conf"
run 0 "$TTALLOC_WORKLOAD" --steps 3 --leak 1 >"$T/out"
says '^    probably what I always forget \[mine\]$'
rm -r "$T/.config"
run 23 --fail-on-leak sh -c "$(leak 3 12288)"
says '^    probably a program in the program cache'
nothing_left "files"

# ---- the same numbers in all formats ----
for format in text json junit; do
	run 23 --fail-on-leak --format $format --report "$T/report.$format" sh -c "$(leak 4 12288)
		'$TTALLOC_WORKLOAD' --steps 3 --leak 2 >/dev/null"
	says '^ttalloc run: 6 buffers, 57344 bytes \(56.0 KiB\) leaked at 2 places; 2 processes reported$'
done
rc "the formats agree" 0 py - "$T" <<'PYTHON'
import json, re, sys, xml.etree.ElementTree
t = sys.argv[1]
text = open(t + "/report.text", encoding="utf-8").read()
j = json.load(open(t + "/report.json", encoding="utf-8"))
suite = xml.etree.ElementTree.parse(t + "/report.junit").getroot().find("testsuite")
groups = {g["key"]: (g["count"], g["bytes"]) for g in j["groups"]}
assert groups["device0/dram/8192..16383/-"] == (4, 49152), groups
assert (j["leaks"], j["failing"]) == ({"count": 6, "bytes": 57344},) * 2, j
assert j["status"] == 0 and j["private"] and j["processes"] == 2 and j["command"][0] == "sh", j
assert [g["known"] and g["known"]["name"] for g in j["groups"]] == ["program-cache-size", None], j
assert [f["function"].split("@")[0] for f in j["groups"][1]["stack"][:2]] == ["model_make", "leak"], j
sums = re.findall(r"^(\d+) buffers, (\d+) bytes .*\n    at ([^,]*),", text, re.M)
assert {key: (int(n), int(b)) for n, b, key in sums} == groups, text
cases = suite.findall("testcase")
assert suite.get("tests") == str(len(cases)) == "3" and suite.get("failures") == "2", suite.attrib
fails = {c.get("name"): c.find("failure").get("message") for c in cases if c.find("failure") is not None}
assert fails == {k: "%d buffers, %d bytes" % v for k, v in groups.items()}, fails
props = {p.get("name"): p.get("value") for p in suite.iter("property")}
assert props["leaks.count"] == "6" and props["leaks.bytes"] == "57344", props
PYTHON
# Nobody reads it: what was asked for fails, but a report that goes to nobody does not change the status.
"$TTALLOC" run --report - true >&- 2>"$T/err"
eq "a closed standard output: exit status" 125 $?
says '^ttalloc: cannot write: Bad file descriptor$'
"$TTALLOC" run --report /dev/stdout sh -c "$touch_it" >&- 2>"$T/err"
eq "a closed standard output by its name: exit status" 125 $?
says '^ttalloc run: /dev/stdout: '
"$TTALLOC" run --baseline /dev/stdin sh -c "$touch_it" <&- 2>"$T/err"
eq "a closed standard input: exit status" 125 $?
eq "closed streams: the command did not run" no "$([ -e "$T/it-ran" ] && echo yes || echo no)"
"$TTALLOC" analyze /dev/stdin <&- >"$T/out" 2>"$T/err"
eq "a closed standard input to analyze: exit status" 125 $?
gone='trap "" PIPE; while echo more; do :; done 2>/dev/null; exit 3'
{ "$TTALLOC" run sh -c "$gone" 2>&1; echo $? >"$T/status"; } | true
eq "standard error and output of whom nobody reads: exit status" 3 "$(cat "$T/status")"
{ env --default-signal=PIPE "$TTALLOC" run sh -c 'kill -PIPE $$' 2>&1; echo $? >"$T/status"; } | cat >"$T/out"
eq "SIGPIPE is the command's own: exit status" 141 "$(cat "$T/status")"
"$TTALLOC" run --report - --format json true 2>"$T/err" | py -m json.tool >"$T/out" || fail "--report - is no JSON"

# ---- as a gate of a CI job ----
cat >"$T/job" <<JOB
set -e
"$TTALLOC" run --fail-on-leak --baseline "$T/baseline" --format junit --report "$T/report.xml" -- \
	"$TTALLOC_WORKLOAD" --steps 3 --leak \$1
echo passed
JOB
eq "a job that passes" passed "$(sh "$T/job" 2 2>"$T/err" | tail -n 1)"
sh "$T/job" 3 >"$T/out" 2>"$T/err"
eq "a job that fails" 23 $?
says '^ttalloc run: 3 buffers'

# ---- signals ----
mkfifo "$T/told" "$T/never"
# start COMMAND...: in the background, with nothing ignored; returns when the command has told that it is there
start() {
	env --default-signal "$TTALLOC" run "$@" </dev/null 2>"$T/err" &
	job=$!
	read -r told <"$T/told"
}
# shellcheck disable=SC2016
waiting='for s in INT TERM HUP USR1; do trap "exit $1" $s; done; echo $$ $TTALLOC_MOUNT >'$T'/told
	while :; do read -r x <>'$T'/never; done'
for signal in INT TERM HUP USR1; do
	start sh -c "$waiting" sh 9
	kill -$signal $job
	wait $job
	eq "SIG$signal is passed on" 9 $?
done
says '^ttalloc run: no leaks'
start sh -c "$waiting; true" sh 9
kill -KILL "${told%% *}"
wait $job
eq "the command is killed" 137 $?
nothing_left "signals"

# what is sent to the group reaches the command once, whoever is in it
mkfifo "$T/counted"
exec {counted}<>"$T/counted"
counting="import os, signal
n = 0
def count(*_):
    global n
    n += 1
    tell()
def tell():
    with open('$T/counted', 'w') as told:
        print(os.getpid(), n, file=told)
signal.signal(signal.SIGHUP, count)
signal.signal(signal.SIGUSR2, lambda *_: tell())
signal.signal(signal.SIGUSR1, lambda *_: os._exit(n))
tell()
while True:
    signal.pause()"
for command in "$PYTHON" "setsid $PYTHON"; do
	# shellcheck disable=SC2086
	env --default-signal setsid "$TTALLOC" run $command -c "$counting" </dev/null 2>"$T/err" &
	job=$!
	read -r -u "$counted" told
	for round in 1 2; do
		[ "$command" = "$PYTHON" ] && kill -STOP $job
		kill -HUP -- -$job
		read -r -u "$counted" told
		eq "SIGHUP to the group, $command" $round "${told#* }"
		kill -CONT $job
		# What comes with a higher number is passed on later.
		kill -USR2 $job
		read -r -u "$counted" told
		eq "SIGHUP to the group is not passed on to $command" $round "${told#* }"
	done
	kill -USR1 $job
	wait $job
	eq "SIGHUP to the group came twice to $command" 2 $?
done
exec {counted}<&-
nothing_left "signals to the group"

# nobody waits for a server that is stopped
start sh -c "$waiting" sh 9
server=$(server_pid "${told#* }")
kill -STOP "$server"
kill -TERM "${told%% *}"
while [ -e "/proc/${told%% *}" ]; do :; done
kill -INT $job
wait_pid $job 30 || {
	fail "it waits for a stopped server"
	kill -CONT "$server"
}
wait $job
eq "interrupted while it reports" 130 $?
wait_pid "$server" 30 || fail "a stopped server is left"
nothing_left "a stopped server"

# what ends after the command, but before the report, is not left running
# shellcheck disable=SC2016
start sh -c '"$0" -c "import signal; signal.pause()" & echo $$ $! "$TTALLOC_MOUNT" >'"$T/told"'; wait' "$PYTHON"
read -r command orphan mount <<<"$told"
server=$(server_pid "$mount")
kill -STOP "$server"
kill -KILL "$command"
while [ -e "/proc/$command" ]; do :; done
kill -KILL "$orphan"
while ! grep -q '^State:	Z' "/proc/$orphan/status"; do :; done
kill -CONT "$server"
wait $job
eq "the command is killed, its child later" 137 $?
says_not 'has left processes running'
nothing_left "what ends after the command"

# killed itself: the server ends all the same
start sh -c "$waiting" sh 9
mount=${told#* }
server=$(server_pid "$mount")
guardian=$(awk '/^PPid:/ { print $2 }' "/proc/$server/status")
kill -KILL $job
wait $job 2>/dev/null
wait_pid "$guardian" 10 || fail "the guardian outlives what it is for"
wait_pid "$server" 10 || fail "the private server outlives what it is for"
kill -TERM "${told%% *}"
wait_pid "${told%% *}" 10
nothing_left "ttalloc run is killed"
# the guardian is killed: no server without it
start sh -c "$waiting" sh 9
server=$(server_pid "${told#* }")
kill -KILL "$(awk '/^PPid:/ { print $2 }' "/proc/$server/status")"
wait_pid "$server" 10 || fail "the private server outlives its guardian"
kill -TERM $job
wait $job
eq "without a server: exit status" 125 $?
nothing_left "the guardian is killed"
# Both are: the next run takes away what they left, and nothing that is another one's.
start sh -c "$waiting" sh 9
server=$(server_pid "${told#* }")
kill -STOP "$server"
kill -KILL "$(awk '/^PPid:/ { print $2 }' "/proc/$server/status")" $job
wait $job 2>/dev/null
kill -KILL "$server" "${told%% *}"
wait_pid "$server" 10
wait_pid "${told%% *}" 10
stale=${told#* }
is_mounted "$stale" || fail "the server's mount is gone: nothing to take away"
start sh -c "$waiting" sh 9
is_mounted "$stale" && fail "a stale mount stays"
eq "what is stale goes, what is in use stays" "$(basename "$(dirname "${told#* }")")" "$(names "$TMPDIR")"
first=$job first_told=$told
start sh -c "$waiting" sh 9
eq "another one at the same time" 2 "$(names "$TMPDIR" | wc -w)"
kill -TERM $job $first
wait $job
eq "the second" 9 $?
wait $first
eq "the first" 9 $?
[ "$first_told" != "$told" ] || fail "two at once are one"
nothing_left "what was left is taken away"
# the server is killed: the command goes on, and it is said
start sh -c "$waiting" sh 0
server=$(server_pid "${told#* }")
kill -KILL "$server"
wait_pid "$server" 10
kill -TERM $job
wait $job
eq "the server is killed: exit status" 125 $?
nothing_left "the server is killed"

# ---- a mount that changes, as its server would do it ----
F=$T/fake
mkdir -p "$F/pids/7"
py -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$T/fake.sock"
version() { echo "ttalloc 0.1.0 abi 1 pid 1 instance $1 socket $T/fake.sock compat_socket -"; }
version one >"$F/version"
columns="device type address size refs pid uid time seq site tag comm"
echo "# $columns" | tee "$F/allocs" >"$F/pids/7/allocs"
echo "# reason $columns" >"$F/suspects"
echo "of an earlier run" >"$T/report"
run 125 --mount "$F" --format json --report "$T/report" sh -c "echo '$(version two)' >'$F/version'"
says "^ttalloc run: $F: the ttallocd there is not the one from the start"
says '^ttalloc run: error: what the command left is not known'
grep -qF '"error": "what the command left is not known' "$T/report" || fail "a report of nothing: $(cat "$T/report")"
run 125 --mount "$F" rm "$F/version"
says "^ttalloc run: no ttallocd at $F: No such file or directory$"
version one >"$F/version"
# reporting LOST: a command that makes a process of its own, which has lost so many events
reporting() { echo "echo \"ancestors \$PPID 1
connected 99999999999.0
lost $1
dram_count 0\" >'$F/pids/7/status'"; }
run 0 --mount "$F" --fail-on-leak sh -c "$(reporting 0)"
says '^ttalloc run: no leaks; 1 process reported$'
run 125 --mount "$F" --fail-on-leak sh -c "$(reporting 2)"
says '^ttalloc run: error: events were lost on their way to ttallocd: '
run 0 --mount "$F" sh -c "$(reporting 2)"
says '^events were lost on their way to ttallocd: '
rm "$T/fake.sock"
run 125 --mount "$F" sh -c "$touch_it"
says "^ttalloc run: $T/fake.sock: No such file or directory$"
eq "no socket: the command did not run" no "$([ -e "$T/it-ran" ] && echo yes || echo no)"

# ---- a shared server: only what is the run's ----
server_start
export TTALLOC_MOUNT=$M
sender_start before 144
sender_start other 144
KEEP=${SENDER_PID[other]}
run 0 --fail-on-leak --allow-silent true
# a call site has names as soon as somebody has the same file with names, or has it at all
strip -o "$T/stripped" "$TTALLOC_WORKLOAD" || die "no strip"
run 0 -- "$T/stripped" --steps 3 --leak 2 >"$T/out"
says "^    #1 $T/stripped\\+0x[0-9a-f]*$"
run 0 -- "$TTALLOC_WORKLOAD" --steps 3 --leak 2 >"$T/out"
says '^    #1 leak@workload-model.c:[0-9]*$'
echo reset >"$M/ctl"
say before alloc 0 dram 0x1000 1000
sender_kill before
run 0 --fail-on-leak -- "$TTALLOC_WORKLOAD" --steps 3 >"$T/out"
says '^ttalloc run: no leaks; 1 process reported$'
run 23 --fail-on-leak -- "$TTALLOC_WORKLOAD" --steps 3 --leak 2 >"$T/out"
says '^ttalloc run: 2 buffers, 8192 bytes'
eq "all reported there" "3 9192" "$(rows "$M/suspects" | awk '{ n++; s += $5 } END { print n, s }')"
(cd "$T" && run 0 --mount mnt sh -c "cd / && cat \$TTALLOC_MOUNT/version" >"$T/out")
same "a relative mount" "$M/version" "$T/out"
# others leak while it runs; --mount says the same as the environment
say other alloc 0 dram 0x2000 7
start --mount "$M" --fail-on-leak sh -c "$(leak 2 100); $waiting" sh 0
sender_start third 72
say third alloc 1 l1 0x10 5
sender_kill third
kill -TERM $job
wait $job
eq "others leak meanwhile: exit status" 23 $?
says '^ttalloc run: 2 buffers, 200 bytes leaked at 1 place; 1 process reported$'
# children, grandchildren, and one that is nobody's child any more
run 23 --fail-on-leak sh -c "$(leak 1 11); sh -c \"\$1\"; (setsid sh -c \"\$1; echo >$T/told\" &); cat $T/told" sh \
	"$(leak 1 22)" >"$T/out"
says '^ttalloc run: 3 buffers, 55 bytes leaked at 2 places; 3 processes reported$'
# two at once
start --fail-on-leak sh -c "$(leak 1 111); $waiting" sh 0
first=$job first_told=$told
mv "$T/err" "$T/err.first"
start --fail-on-leak sh -c "$(leak 2 222); $waiting" sh 0
kill -TERM $job
wait $job
eq "two at once: the second" 23 $?
says '^ttalloc run: 2 buffers, 444 bytes leaked at 1 place; 1 process reported$'
[ "${first_told%% *}" != "${told%% *}" ] || fail "two at once are one"
kill -TERM $first
wait $first
eq "two at once: the first" 23 $?
cp "$T/err.first" "$T/err"
says '^ttalloc run: 1 buffer, 111 bytes leaked at 1 place; 1 process reported$'

# a daemon that it left running
cat >"$T/daemon" <<DAEMON
setsid '$PYTHON' '$TTSEND' --socket "\$TTALLOC_SOCKET" --dialect 144 <$T/daemon.in >$T/daemon.out &
echo alloc 3 l1 0x40 4242 >&3
read -r pid <&4
read -r answer <&4
DAEMON
mkfifo "$T/daemon.in" "$T/daemon.out"
exec {din}<>"$T/daemon.in" {dout}<>"$T/daemon.out"
run 23 --fail-on-leak sh "$T/daemon" 3<>"$T/daemon.in" 4<>"$T/daemon.out"
says '^1 buffer, 4242 bytes \(4.1 KiB\)  l1 of device 3: outlived$'
echo quit >&"$din"
exec {din}<&- {dout}<&-
daemon=$(rows "$M/allocs" | awk '$4 == 4242 { print $6 }')
wait_pid "$daemon" 10 || fail "the daemon does not end"
nothing_left "shared"

# ---- leaks ----
echo "clean dead" >"$M/ctl"
"$TTALLOC_WORKLOAD" --socket "$S" --steps 3 --leak 2 >"$T/out"
rc "leaks" 0 "$TTALLOC" leaks >"$T/out"
grep -q '^2 buffers, 8192 bytes (8.0 KiB)  dram of device 0: died$' "$T/out" || fail "leaks: $(cat "$T/out")"
grep -q '^    #1 leak@workload-model.c:' "$T/out" || fail "leaks has no stack: $(cat "$T/out")"
eq "leaks: total" "ttalloc leaks: 2 buffers, 8192 bytes (8.0 KiB) leaked at 1 place" "$(tail -n 1 "$T/out")"
rc "leaks --fail-on-leak" 23 "$TTALLOC" leaks --fail-on-leak --mount "$M" >"$T/out"
rc "leaks --baseline" 0 "$TTALLOC" leaks --fail-on-leak --baseline "$T/baseline" >"$T/out"
"$TTALLOC" leaks --format json | py -c 'import json, sys
j = json.load(sys.stdin)
assert j["leaks"] == {"count": 2, "bytes": 8192} and "command" not in j and j["notes"] == [], j' || fail "leaks: json"
rc "leaks: nowhere" 125 "$TTALLOC" leaks --mount "$T/nowhere" 2>"$T/err"
rc "leaks: usage" 2 "$TTALLOC" leaks something 2>"$T/err"
"$TTALLOC" leaks >/dev/full 2>"$T/err"
eq "leaks to a full disk" 125 $?
# The disk is full in the middle of the report: a limit does the same.
mkdir -m 777 "$T/full"
echo old >"$T/full/report"
(trap '' XFSZ && ulimit -f 0 && "$TTALLOC" leaks --report "$T/full/report" 2>"$T/full.err" | cat)
eq "a full disk leaves the report" "old report" "$(cat "$T/full/report") $(names "$T/full")"
if [ "$ROOT" = yes ]; then
	# Who may not ask for a scan is told so; what died is there all the same.
	as_nobody env TTALLOC_MOUNT="$M" "$TTALLOC" leaks >"$T/out"
	grep -q '^not scanned' "$T/out" || fail "leaks as nobody: $(cat "$T/out")"
	grep -q '^2 buffers, 8192 bytes' "$T/out" || fail "leaks as nobody: $(cat "$T/out")"
	as_nobody env TTALLOC_MOUNT="$M" "$TTALLOC" leaks --no-scan >"$T/out"
	grep -q '^not scanned' "$T/out" && fail "leaks --no-scan: $(cat "$T/out")"
	# A file that may be written, where nothing may stand beside it.
	mkdir "$T/theirs"
	seq 1000 >"$T/theirs/report"
	chmod 666 "$T/theirs/report"
	# (with the HOME of somebody else)
	mkdir -m 700 "$T/home"
	HOME=$T/home as_nobody "$TTALLOC" leaks --mount "$M" --report "$T/theirs/report" 2>"$T/err"
	eq "written in place" "ttalloc leaks: 2 buffers, 8192 bytes (8.0 KiB) leaked at 1 place report" \
		"$(tail -n 1 "$T/theirs/report") $(names "$T/theirs")"
	as_nobody "$TTALLOC" leaks --mount "$M" --report "$T/theirs/new" 2>"$T/err"
	eq "not written beside" 125 $?
	says '/theirs/new: Permission denied$'
	as_nobody "$TTALLOC" run --fail-on-leak "$TTALLOC_WORKLOAD" --steps 3 --leak 1 >"$T/out" 2>"$T/err"
	eq "run as nobody on a shared server" 23 $?
	says '^ttalloc run: 1 buffer, 4096 bytes'
fi

# ---- diff ----
echo "dump a" >"$M/ctl"
cp "$M/allocs" "$T/allocs.a"
say other alloc 0 dram 0x100000 1048576
say other free 0 0x2000
echo "dump b" >"$M/ctl"
cp "$M/allocs" "$T/allocs.b"
last() { tail -n 1 "$T/out"; }
for pair in "$M/dumps/a $M/dumps/b" "$T/allocs.a $T/allocs.b" "$M/dumps/a now" "$T/allocs.a"; do
	# shellcheck disable=SC2086
	rc "diff $pair" 0 "$TTALLOC" diff $pair >"$T/out"
	eq "diff $pair" "1 buffer came, 1 went; 1048576 bytes came, 7 went" "$(last)"
	grep -qE '^device0/dram/1048576..2097151/- +1 \+1 +1048576 \+1048576 +came 1, went 0$' "$T/out" ||
		fail "diff $pair: $(cat "$T/out")"
done
"$TTALLOC" diff "$T/allocs.b" "$T/allocs.b" >"$T/out"
eq "diff of the same" "0 buffers came, 0 went; 0 bytes came, 0 went" "$(last)"
"$TTALLOC" diff --format json "$T/allocs.a" "$T/allocs.b" | py -c 'import json, sys
j = json.load(sys.stdin)
assert j["exact"] and [d["key"] for d in j["devices"]] == ["device0/dram", "device1/l1"] or j["devices"], j
assert j["total"]["came"] == {"count": 1, "bytes": 1048576} and j["total"]["went"]["count"] == 1, j' || fail "diff: json"
# 1000 bytes before the marks, 200 between them, 30 after them, all held.
py - "$M" "$S" "$TTALLOC" >"$T/out" 2>&1 <<'PYTHON' || fail "diff of marks: $(cat "$T/out")"
import os, socket, struct, subprocess, sys
mount, path, command = sys.argv[1:]
server = socket.socket(socket.AF_UNIX)
server.connect(path)

def alloc(address, size):
    server.sendall(struct.pack("<B3xiQB3xiQQ", 1, 3, size, 0, os.getpid(), address, 0).ljust(72, b"\0"))

def mark(name):
    with open(mount + "/ctl", "w") as ctl:
        ctl.write("mark " + name)

alloc(0x7700000000, 1000)
mark("A")
alloc(0x7700001000, 200)
mark("B")
alloc(0x7700002000, 30)
for a, b, want in (("mark:A", "mark:B", "1 buffer came, 0 went; 200 bytes came, 0 went"),
                   ("mark:A", "now", "2 buffers came, 0 went; 230 bytes came, 0 went"),
                   ("mark:B", "now", "1 buffer came, 0 went; 30 bytes came, 0 went"),
                   ("mark:B", "mark:A", "0 buffers came, 1 went; 0 bytes came, 200 went")):
    got = subprocess.run([command, "diff", "--mount", mount, a, b], capture_output=True, text=True).stdout
    assert got.splitlines()[-1] == want, (a, b, got)
PYTHON
rc "diff: a missing mark" 125 "$TTALLOC" diff mark:none now 2>"$T/err"
says "$M/marks/none/allocs: No such file"
rc "diff: no dump" 125 "$TTALLOC" diff "$M/README" now 2>"$T/err"
for lines in 1 3 5; do
	head -n -$lines "$M/dumps/a" >"$T/part"
	rc "diff: a part of a dump" 125 "$TTALLOC" diff "$T/part" "$M/dumps/b" 2>"$T/err"
	says "^ttalloc diff: $T/part: not a whole dump: it does not end with the number of its buffers$"
done
head -c -1 "$T/allocs.a" >"$T/part"
rc "diff: a part of a table" 125 "$TTALLOC" diff "$T/part" now 2>"$T/err"
says "^ttalloc diff: $T/part: not a whole table: it ends in the middle of a line$"
printf '# device type address size refs pid uid time seq site tag comm\n\0' >"$T/nul"
rc "diff: a NUL byte" 125 "$TTALLOC" diff "$T/nul" now 2>"$T/err"
says 'neither a dump nor a table'
rc "diff: nothing" 2 "$TTALLOC" diff 2>"$T/err"

# ---- private beside the shared one ----
run 23 --private --fail-on-leak sh -c "$(leak 1 10); $(leaker 1 20 "$S")"
says '^ttalloc run: 1 buffer, 10 bytes'
eq "the other one went to the shared server" 1 "$(rows "$M/allocs" | awk '$4 == 20' | wc -l)"
nothing_left "private beside a shared one"

# ---- who may not mount ----
if [ "$ROOT" = yes ]; then
	as_nobody env TTALLOC_MOUNT= HOME=/ "$TTALLOC" run --private true 2>"$T/err"
	status=$?
	if as_nobody sh -c ': <>/dev/fuse' 2>/dev/null; then
		eq "a private server of nobody" 0 $status
	else
		eq "no private server without /dev/fuse" 125 $status
		says '^ttalloc run: no private server: .*fuse'
	fi
	nothing_left "nobody"
fi
sender_end other
server_stop
