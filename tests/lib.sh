# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# lib.sh - what every test on a real mount needs. A test begins with
#
#	. "$(dirname "$0")/lib.sh" || exit 1
#
# and is called as `mount-x.sh [BUILD_DIR]`. It gets a directory of its own ($T) with a mountpoint ($M) and two socket
# paths ($S, $C); whatever it starts with the functions below is ended when it exits, however it exits. A leftover
# (mount, process, socket, file at the mountpoint) or a sanitizer's report in the server's log fails the test.
#
# Nothing here waits for time to pass: the server is ready when `ttallocd` returns, a sender has sent when it has
# answered, a process has ended when its pidfd says so. The numbers of seconds are bounds after which a test fails.
#
# Environment: TTALLOCD, TTALLOC, TTALLOC_WORKLOAD (the binaries; default: in BUILD_DIR), PYTHON, TTALLOCD_WRAPPER (a command
# in front of the server, such as valgrind), TT_TIME_SCALE (factor for the bounds, for slow builds), TT_KEEP=1 (keep $T).

set -u
export LC_ALL=C.UTF-8 TZ=UTC

TESTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TEST_NAME=$(basename "$0")
BUILD=${1:-${MESON_BUILD_ROOT:-}}
SCALE=${TT_TIME_SCALE:-1}
FAILURES=0
CHECKS=0

# ---- outcome ----

note() { printf '%s\n' "$*"; }

fail() {
	FAILURES=$((FAILURES + 1))
	printf 'FAIL %s\n' "$*"
}

die() {
	fail "$*"
	exit 1
}

# eq WHAT EXPECTED GOT
eq() {
	CHECKS=$((CHECKS + 1))
	[ "$2" = "$3" ] && return 0
	fail "$1"
	printf '  expected: %s\n  got:      %s\n' "$2" "$3"
	return 1
}

# same WHAT EXPECTED_FILE GOT_FILE: byte by byte
same() {
	CHECKS=$((CHECKS + 1))
	cmp -s "$2" "$3" && return 0
	fail "$1"
	diff "$2" "$3" | head -n 20
	return 1
}

# like WHAT EXTENDED_REGEX GOT: the whole of GOT matches
like() {
	CHECKS=$((CHECKS + 1))
	[[ $3 =~ ^($2)$ ]] && return 0
	fail "$1"
	printf '  expected to match: %s\n  got:               %s\n' "$2" "$3"
	return 1
}

# rc WHAT EXPECTED COMMAND...: its exit status
rc() {
	local what=$1 want=$2 got
	shift 2
	"$@"
	got=$?
	eq "$what: exit status" "$want" "$got"
}

# ---- what is needed ----

if ! [ -c /dev/fuse ]; then
	echo "SKIP $TEST_NAME: no /dev/fuse"
	exit 77
fi

PYTHON=${PYTHON:-}
if [ -z "$PYTHON" ]; then
	if [ -x /usr/bin/python3 ]; then PYTHON=/usr/bin/python3; else PYTHON=python3; fi
fi

# find_binary NAME: the newest one in the build directory
find_binary() {
	[ -n "$BUILD" ] || return 1
	find "$BUILD" -type f -name "$1" -perm -u+x -print -quit
}
TTALLOCD=${TTALLOCD:-$(find_binary ttallocd)}
TTALLOC_WORKLOAD=${TTALLOC_WORKLOAD:-$(find_binary ttalloc-workload)}
if ! [ -x "$TTALLOCD" ]; then
	echo "FAIL $TEST_NAME: no ttallocd; set TTALLOCD or give the build directory"
	exit 1
fi
TTALLOCD=$(realpath "$TTALLOCD")

# shellcheck disable=SC2034  # for the tests
ROOT=$([ "$(id -u)" = 0 ] && echo yes || echo no)
NOBODY=65534
# as_nobody COMMAND...: as an unprivileged user; only when ROOT=yes
as_nobody() { setpriv --reuid $NOBODY --regid $NOBODY --clear-groups "$@"; }

# ---- a place of its own ----

T=$(mktemp -d "${TMPDIR:-/tmp}/ttalloc-test.XXXXXX") || exit 1
chmod 755 "$T"
M=$T/mnt
S=$T/run/native.sock
C=$T/run/compat.sock
LOG=$T/server.log
mkdir "$M" "$T/run" "$T/py"
chmod 755 "$M" "$T/run" "$T/py"
# senders of another user have to be able to read the tools, wherever this checkout is
cp "$TESTS/ttsend.py" "$TESTS/model.py" "$T/py/"
mkdir "$T/py/tools"
cp "$TESTS"/tools/*.py "$T/py/tools/"
chmod -R a+rX "$T/py"
TTSEND=$T/py/ttsend.py
TOOLS=$T/py/tools
export PYTHONDONTWRITEBYTECODE=1

# Reports go to standard error, which is the server's log, and end the server.
export ASAN_OPTIONS="abort_on_error=0:halt_on_error=1:detect_leaks=1:${TT_ASAN_OPTIONS:-}"
export UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1"

py() { "$PYTHON" "$@"; }
# op OPERATION ARGUMENT...: see tools/op.py; prints "OK", an errno's name or a number
op() { py "$TOOLS/op.py" "$@"; }
op_nobody() { as_nobody "$PYTHON" "$TOOLS/op.py" "$@"; }
# wait_pid PID SECONDS: until it has ended; 1 if it has not
wait_pid() { py "$TOOLS/waitpid.py" "$1" "$(($2 * SCALE))"; }

is_mounted() { grep -qF " $1 " /proc/self/mountinfo; }

# parked PID: returns when that process sleeps in a read() (looks again and again; no time is involved)
parked() {
	local number rest
	while read -r number rest <"/proc/$1/syscall" 2>/dev/null; do
		[ "$number" = 0 ] && grep -q '^State:.S' "/proc/$1/status" && return 0
		[ "$(uname -m)" = x86_64 ] || return 0 # other machines number their calls differently
	done
	return 1
}

# ---- the server ----

SERVERS=()   # pids, started by server_start
MOUNTS=("$M")

# server_pid MOUNTPOINT
server_pid() { sed -n 's/^ttalloc .* pid \([0-9]*\) instance .*/\1/p' "$1/version"; }

# server_try MOUNTPOINT NATIVE COMPAT ARGUMENT...: starts one; its exit status is that of the starting process
server_try() {
	local mnt=$1 native=$2 compat=$3
	shift 3
	MOUNTS+=("$mnt")
	# shellcheck disable=SC2086  # a wrapper is several words
	${TTALLOCD_WRAPPER:-} "$TTALLOCD" --mount "$mnt" --socket "$native" --compat-socket "$compat" "$@" \
		</dev/null >>"$T/server.out" 2>>"$LOG"
}

# server_start ARGUMENT...: the usual one, on $M; sets SERVER to its pid
server_start() {
	local status
	server_try "$M" "$S" "$C" "$@"
	status=$?
	[ $status = 0 ] || die "ttallocd $*: exit status $status"
	is_mounted "$M" || die "ttallocd returned, but $M is not mounted"
	SERVER=$(server_pid "$M")
	[ -n "$SERVER" ] || die "no pid in version: $(head -c 200 "$M/version")"
	SERVERS+=("$SERVER")
}

# server_stop: SIGTERM; fails the test unless everything is gone
server_stop() {
	kill -TERM "$SERVER" || fail "server_stop: no process $SERVER"
	wait_pid "$SERVER" 10 || fail "the server (pid $SERVER) did not end on SIGTERM"
	server_gone
}

# server_gone: after the end of the usual server
server_gone() {
	is_mounted "$M" && fail "still mounted after the server's end: $M"
	[ -e "$S" ] && fail "the socket was left behind: $S"
	[ -e "$C" ] && fail "the socket was left behind: $C"
	return 0
}

# ---- senders ----
#
# sender_start NAME DIALECT [ARGUMENT of ttsend.py...]; say NAME COMMAND...; the answer is in $ANSWER
# SENDER_AS="setpriv ..." in front makes it another user's.

declare -A SENDER_PID SENDER_IN SENDER_OUT SENDER_JOB

sender_start() {
	local name=$1 dialect=$2
	shift 2
	local in out
	mkfifo "$T/$name.in" "$T/$name.out"
	chmod 666 "$T/$name.in" "$T/$name.out"
	# shellcheck disable=SC2086
	${SENDER_AS:-} "$PYTHON" "$TTSEND" --socket "${SENDER_SOCKET:-$C}" --dialect "$dialect" "$@" \
		<"$T/$name.in" >"$T/$name.out" &
	SENDER_JOB[$name]=$!
	exec {in}>"$T/$name.in" {out}<"$T/$name.out"
	SENDER_IN[$name]=$in
	SENDER_OUT[$name]=$out
	IFS= read -r -u "$out" ANSWER || die "sender $name did not start"
	case $ANSWER in
	"ready "*) SENDER_PID[$name]=${ANSWER#ready } ;;
	*) die "sender $name: $ANSWER" ;;
	esac
}

# say NAME COMMAND...: returns when the sender has done it; dies on an error unless the test expects an answer
say() {
	local name=$1
	shift
	printf '%s\n' "$*" >&"${SENDER_IN[$name]}"
	IFS= read -r -u "${SENDER_OUT[$name]}" ANSWER || { ANSWER="ended"; return 1; }
	case $ANSWER in error*) fail "sender $name: $*: $ANSWER" ;; esac
	return 0
}

# sender_kill NAME: SIGKILL; returns when it is dead and waited for
sender_kill() {
	kill -KILL "${SENDER_PID[$1]}"
	wait "${SENDER_JOB[$1]}" 2>/dev/null
	sender_forget "$1"
}

# sender_end NAME: it exits; returns when it is waited for
sender_end() {
	local status
	printf 'quit\n' >&"${SENDER_IN[$1]}"
	wait "${SENDER_JOB[$1]}" 2>/dev/null
	status=$?
	sender_forget "$1"
	eq "sender $1: exit status" 0 $status
}

sender_forget() {
	local in=${SENDER_IN[$1]} out=${SENDER_OUT[$1]}
	exec {in}>&- {out}<&-
	rm -f "$T/$1.in" "$T/$1.out"
	unset "SENDER_IN[$1]" "SENDER_OUT[$1]" "SENDER_JOB[$1]"
}

# ---- looking ----

# stat_of KEY: a value of the file `stats`
stat_of() { sed -n "s/^$1 //p" "$M/stats"; }
# key FILE KEY: a value of any keyed file
key() { sed -n "s/^$2 //p" "$1"; }
# sum_row DEVICE TYPE: "count bytes peak allocs frees" of device<N>/summary
sum_row() { awk -v t="$2" '$1 == t { print $2, $3, $4, $7, $8 }' "$M/device$1/summary"; }
# names DIR: what is in it, in order, on one line
names() { find "$1" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort | xargs; }
# rows FILE: lines without the header
rows() { tail -n +2 "$1"; }

# ---- the end ----

# Processes that have this test's directory in their command line: ours, and nobody else's.
our_processes() { TT_DIR=$T/ py "$TOOLS/ours.py"; }

cleanup() {
	local status=$? pid name mnt left
	trap - EXIT
	cd /
	for name in "${!SENDER_JOB[@]}"; do
		kill -KILL "${SENDER_PID[$name]}" 2>/dev/null
		wait "${SENDER_JOB[$name]}" 2>/dev/null
	done
	for pid in "${SERVERS[@]}"; do
		our_processes | grep -qx "$pid" || continue
		kill -TERM "$pid" 2>/dev/null
		wait_pid "$pid" 10 || fail "the server (pid $pid) did not end on SIGTERM"
	done
	for mnt in "${MOUNTS[@]}"; do
		if is_mounted "$mnt"; then
			fail "left mounted: $mnt"
			umount -f -l "$mnt" 2>/dev/null || fusermount3 -u -z "$mnt"
		elif [ -d "$mnt" ] && [ "$mnt" = "$M" ]; then
			left=$(ls -A "$mnt")
			[ -z "$left" ] || fail "left at the mountpoint: $left"
		fi
	done
	left=$(our_processes)
	if [ -n "$left" ]; then
		fail "left running:"
		for pid in $left; do
			printf '  %s %s\n' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline")"
			kill -KILL "$pid"
			wait_pid "$pid" 10
		done
	fi
	left=$(find "$T/run" -mindepth 1 2>/dev/null)
	[ -z "$left" ] || fail "left behind: $left"
	if grep -qE 'ERROR: [A-Za-z]*Sanitizer|runtime error:|LeakSanitizer' "$LOG" 2>/dev/null; then
		fail "a sanitizer complained"
	fi
	if grep -qE '==[0-9]+== ERROR SUMMARY: [1-9]' "$LOG" 2>/dev/null; then
		fail "valgrind complained"
	fi
	[ $status = 0 ] || [ $FAILURES != 0 ] || fail "ended with status $status"
	if [ $FAILURES != 0 ] && [ -s "$LOG" ]; then
		echo "---- the server's log (last 100 lines)"
		tail -n 100 "$LOG"
		echo "----"
	fi
	if [ "${TT_KEEP:-}" = 1 ]; then
		echo "kept: $T"
	else
		chmod -R u+rwX "$T" # copies of read-only directories
		rm -rf --one-file-system "$T"
	fi
	printf '%s: %d checks, %d failures\n' "$TEST_NAME" "$CHECKS" "$FAILURES"
	exit $((FAILURES != 0))
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
