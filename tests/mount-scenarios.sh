#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The faults that people hunt in real programs (ttalloc-workload --scenario), each hunted as its user would: what is
# found is exactly the fault, with its reason, size, tag, function and what it probably is, and nothing else.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1
[ -x "$TTALLOC_WORKLOAD" ] || die "no ttalloc-workload; set TTALLOC_WORKLOAD or give the build directory"
TTALLOC=${TTALLOC:-$(find_binary ttalloc)}
[ -x "$TTALLOC" ] || die "no ttalloc; set TTALLOC or give the build directory"
unset TTALLOC_SOCKET TT_ALLOC_TRACKING_ENABLED
export TTALLOC_MOUNT=$M TTALLOC_SOCKET=$S HOME=$T XDG_CONFIG_HOME=

# run STATUS NAME ARGUMENT...: the scenario under `ttalloc run`, and its own totals
run() {
	local want=$1
	shift
	"$TTALLOC" run --fail-on-leak --format json --report "$T/report" -- "$TTALLOC_WORKLOAD" --scenario "$@" \
		>"$T/out" 2>"$T/err" </dev/null
	eq "$1: exit status of ttalloc run" "$want" $? || cat "$T/err"
}
# hunt STATUS NAME ARGUMENT...: the same on a server of its own
hunt() {
	server_start
	run "$@"
	rc "$2: totals" 0 py "$TOOLS/workload.py" "$M" "$T/out"
}
# groups WHAT LINE...: what the report says, see tools/groups.py
groups() {
	local what=$1
	shift
	eq "$what: the report" "$(printf '%s\n' "$@")" "$(py "$TOOLS/groups.py" "$T/report")"
}
# expects NAME LINE...: what the scenario itself says must be found
expects() {
	local what=$1
	shift
	eq "$what: what it says" "$(printf '%s\n' "scenario $what" "${@/#/expect }")" \
		"$(grep -E '^(scenario|expect) ' "$T/out")"
	DONE+=" $what"
}
# suspects: REASON DEVICE TYPE ADDRESS SIZE REFS STATE TAG of each
suspects() { rows "$M/suspects" | awk '{ print $1, $2, $3, $4, $5, $6, $9, $14 }' | sort; }
# suspected WHAT LINE...: these and no others, in suspects and in leaks/
suspected() {
	local what=$1
	shift
	eq "$what: suspects" "$(printf '%s\n' "$@" | sort)" "$(suspects)"
	eq "$what: leaks/" "$(rows "$M/suspects" | wc -l)" "$(find "$M/leaks" -type f | wc -l)"
}
# past DEVICE ADDRESS: what is remembered, without times and places
past() { sed -nE 's/^  [0-9.]+ /  /; s/pid=[0-9]+ //; s/ site=.*//; /^(type|history|  )/p' "$M/device$1/history/$2"; }
# places DEVICE ADDRESS FUNCTION: KIND and a number for each place, the first that it has; only of events whose stack has
# that function in it
places() {
	sed -nE 's/^  [0-9.]+ ([A-Z_]+) .* site=([0-9a-f]{16})$/\1 \2/p' "$M/device$1/history/$2" |
		while read -r kind site; do
			grep -qE " $3[@ ]" "$M/stacks/$site" && echo "$kind $site"
		done | awk '!($2 in n) { n[$2] = NR } { print $1, n[$2] }' | xargs
}

DONE=

# ---- the program cache is left ----
hunt 23 program-cache
groups "program-cache" "died 2 36864 dram 0 program_cache fill_program_cache,step_scenario program-cache"
expects program-cache "tag program_cache" "function fill_program_cache" "died device 0 dram count 2 bytes 36864"
suspected "program-cache" "died 0 dram 0x000138000000 12288 1 dead program_cache" \
	"died 0 dram 0x000138003000 24576 1 dead program_cache"
leak=$(find "$M/leaks" -name '*-0x000138003000-*')
eq "program-cache: its call site" "2 36864 36864 2 0" \
	"$(for k in live bytes peak allocs frees; do key "$leak" site_$k; done | xargs)"
grep -qE ' fill_program_cache[@ ]' "$leak" || fail "program-cache: no function in $(cat "$leak")"
server_stop
hunt 23 program-cache --devices 2 --layers 1
groups "program-cache, 2 devices" "died 4 73728 dram 0-1 program_cache fill_program_cache,step_scenario program-cache"
server_stop

# ---- the KV cache is kept ----
hunt 23 kv-cache --layers 2
tags=layers.0/kv_cache/keys+layers.0/kv_cache/values+layers.1/kv_cache/keys+layers.1/kv_cache/values
groups "kv-cache" "died 4 7948384 dram 0 $tags load_weight,load_kv_cache -"
expects kv-cache "tag layers.*/kv_cache/*" "function load_kv_cache" "died device 0 dram count 4 bytes 7948384"
eq "kv-cache: suspects" "died layers.0/kv_cache/keys died layers.0/kv_cache/values died layers.1/kv_cache/keys \
died layers.1/kv_cache/values" "$(suspects | awk '{ print $1, $8 }' | sort | xargs)"
server_stop

# ---- growth, found while the program runs: a mark after each step ----
# hold NAME: until it holds
hold() {
	server_start
	mkfifo "$T/told"
	"$TTALLOC_WORKLOAD" --scenario "$1" --hold >"$T/told" 2>"$T/err" &
	job=$!
	exec {told}<"$T/told"
	: >"$T/out"
	while IFS= read -r -u "$told" line && printf '%s\n' "$line" >>"$T/out" && [ "$line" != "state holding" ]; do :; done
	rc "$1 holds: totals" 0 py "$TOOLS/workload.py" "$M" "$T/out"
}
# let_go NAME: it ends, and tells its last totals
let_go() {
	kill -TERM $job
	cat <&"$told" >"$T/out.end"
	exec {told}<&-
	rm "$T/told"
	wait $job
	eq "$1: exit status" 0 $?
	cat "$T/out.end" >>"$T/out"
	rc "$1: totals" 0 py "$TOOLS/workload.py" "$M" "$T/out"
	sed -i '1,/^state holding/d' "$T/out"
}
# growing NAME TAG FUNCTION SIZE: the workload holds, and grows by one buffer of that size per step. It has made ten
# marks; what came before the first of them is not known to have grown.
growing() {
	hold "$1"
	eq "$1: what grows per mark" "$4 dram" "$(rows "$M/sites" | awk '$7 != 0 { print $7, $9 }')"
	eq "$1: no suspect before the scan" "" "$(suspects)"
	rc "$1: ttalloc leaks" 23 "$TTALLOC" leaks --fail-on-leak --format json --report "$T/report" 2>"$T/err"
	groups "$1, while it runs" "growing 9 $((9 * $4)) dram 0 $2 $3,step_scenario -"
	eq "$1: suspects" "9 growing 0 dram $4 1 live $2" \
		"$(suspects | awk '{ print $1, $2, $3, $5, $6, $7, $8 }' | uniq -c | xargs)"
	let_go "$1"
	rc "$1: ttalloc leaks at its end" 23 "$TTALLOC" leaks --fail-on-leak --format json --report "$T/report" 2>"$T/err"
	groups "$1, at its end" "died 10 $((10 * $4)) dram 0 $2 $3,step_scenario -"
	expects "$1" "tag $2" "function $3" "growth $4" "died device 0 dram count 10 bytes $((10 * $4))"
	server_stop
}
growing grows-per-run run leave_of_run 36864
growing grows-per-step token append_token 64

# ---- a double free that hits another tensor: no leak, but a counter, the history of the address, and the log ----
export TT_ALLOC_TRACKING_ENABLED=1 TT_ALLOC_TRACKING_DETAILED=1 TTALLOC_LOG=$T/log
# timeline ADDRESS: kind, size and tag of what happened there
timeline() {
	"$TTALLOC" analyze --address "$1" "$T/log" |
		awk '/^Timeline/ { on = 1; getline; next } on { print $4, $6, $NF }'
}
hunt 0 double-free
groups "double-free"
expects double-free "history 0x000138000000 ALLOC FREE ALLOC FREE DOUBLE_FREE" "no leak"
suspected "double-free" ""
eq "double-free: counted" "1 0" "$(stat_of double_frees) $(stat_of unknown_frees)"
eq "double-free: summary" "frees:    1 double" "$(grep "^frees:" "$M/summary")"
eq "double-free: the address" "type dram
history allocs=2 frees=2
  ALLOC size=4096 ref=1
  FREE size=4096 ref=0
  ALLOC size=2048 ref=1
  FREE size=2048 ref=0
  DOUBLE_FREE size=- ref=0" "$(past 0 0x000138000000)"
eq "double-free: the places" "ALLOC 1 FREE 2 ALLOC 3 FREE 4 DOUBLE_FREE 5" "$(places 0 0x000138000000 free_of_another)"
eq "double-free: whose tags they have, is in the log" "alloc 4096 tensor_a
free 4096 tensor_a
alloc 2048 tensor_b
free 2048 tensor_a
double_free 2048 tensor_b" "$(timeline 0x138000000)"
rm "$T/log"
server_stop

# ---- a view frees its base ----
hunt 0 view
groups "view"
expects view "history 0x000138000000 ALLOC FREE DOUBLE_FREE" "no leak"
suspected "view" ""
eq "view: counted" "1 0" "$(stat_of double_frees) $(stat_of unknown_frees)"
eq "view: the address" "type dram
history allocs=1 frees=1
  ALLOC size=8192 ref=1
  FREE size=8192 ref=0
  DOUBLE_FREE size=- ref=0" "$(past 0 0x000138000000)"
eq "view: the places" "ALLOC 1 FREE 2 DOUBLE_FREE 3" "$(places 0 0x000138000000 free_base_by_view)"
eq "view: whose tags they have, is in the log" "alloc 8192 base
free 8192 view
double_free 8192 base" "$(timeline 0x138000000)"
rm "$T/log"
unset TT_ALLOC_TRACKING_ENABLED TT_ALLOC_TRACKING_DETAILED TTALLOC_LOG
server_stop

# ---- frees of early buffers: normal; counted, and no leak ----
hunt 0 early-frees
groups "early-frees"
expects early-frees "no leak"
suspected "early-frees" ""
eq "early-frees: counted" "0 8" "$(stat_of double_frees) $(stat_of unknown_frees)"
eq "early-frees: which" "$(printf 'unknown_free 0 0x0001300000%s ' 00 20 40 60 80 a0 c0 e0 | xargs)" \
	"$(rows "$M/trace" | awk '$3 ~ /_free$/ { print $3, $4, $6 }' | xargs)"
server_stop

# ---- SIGKILL in the middle of a step ----
hunt 23 killed
expects killed "died device 0 dram count 37 bytes 76196448" "died device 0 l1 count 2 bytes 182432" \
	"died device 0 l1_small count 4 bytes 11904" "died device 0 trace count 1 bytes 28220096" \
	"died device 0 kernel count 7 bytes 148320"
eq "killed: the report" "51 104759200 died" "$(py "$TOOLS/groups.py" "$T/report" |
	awk '{ n += $2; b += $3; seen[$1] } END { for (r in seen) print n, b, r }')"
eq "killed: what the step was at" "died l1 layers.1/norm died l1 layers.1/qkv" \
	"$(suspects | awk '$3 == "l1" { print $1, $3, $8 }' | sort | xargs)"
grep -qx 'died 2 182432 l1 0 layers.1/norm+layers.1/qkv run_layer,run_step -' <(py "$TOOLS/groups.py" "$T/report") ||
	fail "killed: no activations in $(py "$TOOLS/groups.py" "$T/report")"
server_stop

# ---- the program ends and frees nothing ----
hunt 23 exit
groups "exit" "died 28 38260160 dram 0 ... load_weight,load_weights -" \
	"died 1 28220096 trace 0 trace load_trace,load_device trace" \
	"died 1 21545440 dram 0 embedding load_weight,load_device -" \
	"died 8 16390848 dram 0 ... load_weight,load_kv_cache -" \
	"died 5 97728 kernel 0 layers.2/program+layers.3/program load_kernel,compile_program kernels" \
	"died 4 79584 kernel 0 layers.0+layers.1+layers.2+layers.3 load_kernel,load_kernel_held kernels" \
	"died 1 22848 kernel 0 firmware load_kernel,load_kernel_held kernels" \
	"died 1 21696 kernel 0 firmware load_kernel,load_kernel_held kernels" \
	"died 4 11904 l1_small 0 layers.0+layers.1+layers.2+layers.3 load_layer,load_device -"
expects exit "died device 0 dram count 37 bytes 76196448" "died device 0 l1_small count 4 bytes 11904" \
	"died device 0 trace count 1 bytes 28220096" "died device 0 kernel count 11 bytes 221856"
server_stop

# ---- a count of references that never falls ----
hunt 23 refs --steps 4
groups "refs" "died 1 32768 dram 0 shared attach,step_scenario -"
expects refs "tag shared" "function attach" "died device 0 dram count 1 bytes 32768"
suspected "refs" "died 0 dram 0x000138000000 32768 4 dead shared"
eq "refs: the address" "type dram
history allocs=1 frees=0
  ALLOC size=32768 ref=1
  REF size=32768 ref=2
  REF size=32768 ref=3
  REF size=32768 ref=4
  REF size=32768 ref=5
  UNREF size=32768 ref=4" "$(past 0 0x000138000000)"
eq "refs: the place that takes them" "ALLOC 1 REF 2 REF 2 REF 2 REF 2" "$(places 0 0x000138000000 attach)"
server_stop

# ---- two processes on one device, both with a buffer at one address ----
hunt 23 two-processes
groups "two-processes" "died 1 4096 dram 0 common share_address,step_scenario -"
expects two-processes "tag common" "function share_address" "address 0x00003f000000" \
	"died device 0 dram count 1 bytes 4096"
suspected "two-processes" "died 0 dram 0x00003f000000 4096 1 dead common"
second=$(sed -n 's/^pid //p' "$T/out" | tail -n 1)
eq "two-processes: whose" "$second" "$(rows "$M/suspects" | awk '{ print $7 }')"
eq "two-processes: both were there" "2 1" \
	"$(sed -nE 's/^history allocs=([0-9]+) frees=([0-9]+)/\1 \2/p' "$M/device0/history/0x3f000000")"
eq "two-processes: no free of another's" "0 0 0" \
	"$(stat_of foreign_frees) $(stat_of double_frees) $(stat_of unknown_frees)"
server_stop

# ---- DRAM and L1 at one address ----
hunt 23 two-types
groups "two-types" "died 1 4096 dram 0 both use_both_memories,step_scenario -"
expects two-types "tag both" "function use_both_memories" "address 0x00000025e000" "ambiguous_frees 1" \
	"died device 0 dram count 1 bytes 4096"
suspected "two-types" "died 0 dram 0x00000025e000 4096 1 dead both"
eq "two-types: two memories" "type dram
history allocs=1 frees=0
  ALLOC size=4096 ref=1
type l1
history allocs=1 frees=1
  ALLOC size=2048 ref=1
  FREE size=2048 ref=0" "$(past 0 0x00000025e000)"
server_stop

# ---- three successive runs compared: one that leaves 36 KB each time, and one that leaves nothing ----
server_start
for run in 1 2 3; do
	run 23 program-cache
	cp "$M/allocs" "$T/allocs.$run"
	echo "dump run$run" >"$M/ctl"
done
# grown WHAT A B BUFFERS BYTES: the total of a diff, and the line of the call site or class
grown() {
	rc "$1" 0 "$TTALLOC" diff "$2" "$3" >"$T/diff"
	eq "$1" "$4 buffers came, 0 went; $5 bytes came, 0 went" "$(tail -n 1 "$T/diff")"
}
grown "run 2 less run 1" "$T/allocs.1" "$T/allocs.2" 2 36864
eq "run 2 less run 1: one call site" "4 +2 73728 +36864 came 2, went 0" \
	"$(awk '/^call site/ { getline; $1 = ""; print }' "$T/diff" | xargs)"
grep -qE '^    #2 fill_program_cache(@|$)' "$T/diff" || fail "diff names no function: $(cat "$T/diff")"
grep -qE '^[0-9a-f]{16}/dram/program_cache ' "$T/diff" || fail "diff names no tag: $(cat "$T/diff")"
grown "run 3 less run 2" "$T/allocs.2" "$T/allocs.3" 2 36864
grown "run 3 less run 1" "$T/allocs.1" "$T/allocs.3" 4 73728
grown "the same of dumps" "$M/dumps/run1" "$M/dumps/run3" 4 73728
# by hand: what the last run has left
echo clear >"$M/ctl"
run 23 program-cache
echo scan >"$M/ctl"
suspected "clear, run, scan" "died 0 dram 0x000138000000 12288 1 dead program_cache" \
	"died 0 dram 0x000138003000 24576 1 dead program_cache"
# as a gate: the first run is the baseline, the same again passes, one on two devices does not
"$TTALLOC" run --write-baseline "$T/baseline" -- "$TTALLOC_WORKLOAD" --scenario program-cache >"$T/out" 2>"$T/err"
rc "as known" 0 "$TTALLOC" run --fail-on-leak --baseline "$T/baseline" -- \
	"$TTALLOC_WORKLOAD" --scenario program-cache >"$T/out" 2>"$T/err"
rc "more than known" 23 "$TTALLOC" run --fail-on-leak --baseline "$T/baseline" -- \
	"$TTALLOC_WORKLOAD" --scenario program-cache --devices 2 >"$T/out" 2>"$T/err"
for run in 1 2 3; do
	"$TTALLOC_WORKLOAD" >"$T/out" 2>"$T/err" || fail "a clean run: $(cat "$T/err")"
	cp "$M/allocs" "$T/allocs.$run"
done
grown "clean: run 2 less run 1" "$T/allocs.1" "$T/allocs.2" 0 0
grown "clean: run 3 less run 1" "$T/allocs.1" "$T/allocs.3" 0 0
server_stop

# ---- each of them in two processes on two devices: their books are exact ----
for scenario in $("$TTALLOC_WORKLOAD" --scenario list | cut -d ' ' -f 1); do
	server_start
	"$TTALLOC_WORKLOAD" --scenario "$scenario" --processes 2 --devices 2 --steps 12 >"$T/out" 2>"$T/err"
	eq "$scenario, 2 processes, 2 devices: exit status" 0 $?
	rc "$scenario, 2 processes, 2 devices: totals" 0 py "$TOOLS/workload.py" "$M" "$T/out"
	server_stop
done

# ---- the list of them, and what is none ----
rc "--scenario list" 0 "$TTALLOC_WORKLOAD" --scenario list >"$T/out"
eq "each was tried" "$(cut -d ' ' -f 1 "$T/out" | sort | xargs)" "$(xargs -n 1 <<<"$DONE" | sort | xargs)"
rc "no such scenario" 2 "$TTALLOC_WORKLOAD" --scenario leak 2>"$T/err"
eq "no such scenario" \
	"ttalloc-workload: --scenario: 'leak' is none of those that --scenario list lists; see --help" "$(cat "$T/err")"
