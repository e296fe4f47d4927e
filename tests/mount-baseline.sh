#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Leak hunting: clear, run, scan, ls leaks; what is too young or too small; suppressions, and wrong ones; very many.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1

server_start
SUPPRESSIONS=$M/options/suppressions
# suspects WHAT EXPECTED: ADDRESS:REASON:STATE of each, in order; leaks/ and stats say the same
suspects() {
	eq "$1" "$2" "$(rows "$M/suspects" | awk '{ sub("0x0*", "", $4); print $4 ":" $1 ":" $9 }' | sort | xargs)"
	eq "$1: leaks/" "$(rows "$M/suspects" | awk '{ print "pid" $7 "-device" $2 "-" $3 "-" $4 "-" $12 }' | sort | xargs)" \
		"$(names "$M/leaks")"
	eq "$1: stats" "$(rows "$M/suspects" | wc -l)" "$(stat_of suspects)"
}
command() { echo "$1" >"$M/ctl" || fail "$1"; }
seq_of() { rows "$M/allocs" | awk -v a="$1" '$3 == a { print $9 }'; }

# ---- without a baseline there is nothing that has outlived it ----
sender_start a 144 --comm "my prog"
A=${SENDER_PID[a]}
say a alloc 0 dram 0x1000 4096
eq "never cleared" "- -" "$(stat_of cleared) $(stat_of scanned)"
command scan
suspects "scan without a clear" ""
like "scanned" '- [0-9]+\.[0-9]{6}' "$(stat_of cleared) $(stat_of scanned)"

# ---- clear, run, scan, ls leaks ----
sender_start b 72
say b alloc 1 l1 0x2000 512
sender_kill b
suspects "died" "2000:died:dead"
command clear
eq "clear empties leaks/" "" "$(ls -A "$M/leaks")"
like "cleared" '[0-9]+\.[0-9]{6}' "$(stat_of cleared)"
say a alloc 0 dram 0x3000 12288
say a cb 2 0x4000 64
suspects "before the scan" ""
command scan
suspects "after the scan" "3000:outlived:live 4000:outlived:live"
say a alloc 0 dram 0x5000 1
say a cbfree 2 0x4000
suspects "freed: none any more; new: not yet" "3000:outlived:live"
leak=$M/leaks/pid$A-device0-dram-0x000000003000-$(seq_of 0x000000003000)
eq "record: reason" outlived "$(key "$leak" reason)"
eq "record: state" live "$(key "$leak" state)"
eq "record: ended" - "$(key "$leak" ended)"
eq "record: why" "allocated after the clear at $(stat_of cleared), and owner $A (my%20prog) still held it at the scan at \
$(stat_of scanned)" "$(key "$leak" why)"
like "record: age_s" '[0-9]+\.[0-9]' "$(key "$leak" age_s)"
eq "record: the buffer" "12288 1 $A my%20prog - -" \
	"$(for k in size refs pid comm tag site; do key "$leak" $k; done | xargs)"
grep -q '^history allocs=1 frees=0' "$leak" || fail "no history: $(cat "$leak")"
eq "record: blocks" 24 "$(stat -c %b "$leak")"
eq "summary" "suspects: 1 outlived: see leaks/" "$(grep '^suspects' "$M/summary")"
eq "stats" "0 1 0" "$(stat_of suspects_died) $(stat_of suspects_outlived) $(stat_of suspects_growing)"
eq "trace" "scan clear scan" "$(rows "$M/trace" | awk '$3 == "clear" || $3 == "scan" { print $3 }' | xargs)"
say a free 0 0x3000
eq "freed: the record" ENOENT "$(op stat "$leak")"

# ---- an end: what came after the baseline died, what was held then stays excused ----
command scan
suspects "one that outlived" "5000:outlived:live"
say a alloc 0 dram 0x6000 1
sender_kill a
suspects "killed" "5000:died:dead 6000:died:dead"
eq "what was cleared is still booked" "1000 5000 6000" \
	"$(rows "$M/device0/allocs" | awk '{ sub("0x0*", "", $3); print $3 }' | sort | xargs)"
command scan
suspects "scan does not change that" "5000:died:dead 6000:died:dead"
command "clean dead"
eq "clean dead takes all of them" "" "$(rows "$M/allocs")"

# ---- age and size ----
sender_start a 112
command clear
say a alloc 0 dram 0x100 1000
say a alloc 0 dram 0x200 1001
echo 3600000 >"$M/options/min_age_ms"
command scan
suspects "too young" ""
echo 0 >"$M/options/min_age_ms"
echo 1001 >"$M/options/min_size"
command scan
suspects "too small" "200:outlived:live"
eq "read back" "0 1001" "$(cat "$M/options/min_age_ms" "$M/options/min_size" | xargs)"
echo 3600000 >"$M/options/min_age_ms"
suspects "a setting judges nothing" "200:outlived:live"
command scan
suspects "the next scan does" ""
sender_kill a
suspects "the dead have no age, and any size" "100:died:dead 200:died:dead"
echo 0 >"$M/options/min_age_ms"
echo 0 >"$M/options/min_size"
command "reset history"
suspects "reset history" ""
command "clean dead"

# ---- suppressions: by the name of the process, before and afterwards ----
sender_start a 144 --comm "cache fill"
sender_start b 144 --comm "trainer"
say a alloc 0 dram 0xa 1
say b alloc 0 dram 0xb 1
echo 'leak:cache' >"$SUPPRESSIONS"
eq "read back" "leak:cache" "$(cat "$SUPPRESSIONS")"
sender_kill a
sender_kill b
suspects "suppressed" "b:died:dead"
echo 'leak:^trainer$' >"$SUPPRESSIONS"
suspects "replaced" "a:died:dead"
echo 'leak:^cache fill$' >>"$SUPPRESSIONS"
suspects "added" ""
eq "both are there" "leak:^trainer$ leak:^cache fill$" "$(xargs -d '\n' <"$SUPPRESSIONS")"
printf '# none\n\n' >"$SUPPRESSIONS"
suspects "emptied" "a:died:dead b:died:dead"
printf 'leak:x' >"$SUPPRESSIONS"
printf 'leak:tra*' >>"$SUPPRESSIONS"
eq "added behind a line without an end" "leak:x
leak:tra*" "$(cat "$SUPPRESSIONS")"
{ printf 'leak:cac'; printf 'he\nleak:trai'; printf 'ner\n'; } >"$SUPPRESSIONS"
eq "written in pieces" "leak:cache
leak:trainer" "$(cat "$SUPPRESSIONS")"
suspects "which are one list" ""
eq "its length" 24 "$(stat -c %s "$SUPPRESSIONS")"
echo >"$SUPPRESSIONS"
command "clean dead"

# ---- by tag and function, of a program with the library ----
echo 'leak:^workload-model.c$' >"$SUPPRESSIONS"
"$TTALLOC_WORKLOAD" --socket "$S" --leak 3 --steps 3 >"$T/out" 2>"$T/err" || fail "workload: $(cat "$T/err")"
eq "three leaks" "3 died" "$(rows "$M/suspects" | awk '{ print $1 }' | uniq -c | xargs)"
leak=$(find "$M/leaks" -type f | head -n 1)
eq "what else the site holds" "3 12288 12288 3 0" \
	"$(for k in live bytes peak allocs frees; do key "$leak" site_$k; done | xargs)"
# the name is looked up by another process: how often it takes to ask is a bound
for _ in $(seq 5000); do
	grep -q ' leak@workload-model.c' "$leak" 2>"$T/err" && break
	[ -e "$leak" ] || break
done
eq "known, but not yet asked again" 3 "$(stat_of suspects)"
command scan
suspects "by source, once that is known" ""
echo 'leak:^scratch$' >"$SUPPRESSIONS"
suspects "by tag" ""
echo 'leak:^leak$' >"$SUPPRESSIONS"
suspects "by function" ""
"$TTALLOC_WORKLOAD" --socket "$S" --leak 3 --steps 3 >"$T/out" 2>"$T/err" || fail "workload: $(cat "$T/err")"
suspects "by function, from the start" ""
echo 'leak:/client/ttalloc-workload' >"$SUPPRESSIONS"
suspects "by the path of the binary" ""
echo 'leak:^leek$' >"$SUPPRESSIONS"
eq "by another one" "6 died" "$(rows "$M/suspects" | awk '{ print $1 }' | uniq -c | xargs)"
command "clean dead"

# ---- wrong lists: nothing changes, and error_log tells ----
echo 'leak:kept' >"$SUPPRESSIONS"
# refused WHAT ERRNO TEXT WORDS
refused() {
	eq "$1" "$2" "$(op write "$SUPPRESSIONS" "$3")"
	eq "$1: error_log" "$4" "$(tail -n 1 "$M/error_log" | sed 's/^.* options/options/; s/pid [0-9]*/pid/')"
	eq "$1: unchanged" "leak:kept" "$(cat "$SUPPRESSIONS")"
}
refused "no rule" EINVAL 'leak:a\n\nkeep:b\n' "options/suppressions: pid: line 3: does not begin with leak:"
refused "no pattern" EINVAL 'leak:a\nleak:\n' "options/suppressions: pid: line 2: leak: without a pattern"
refused "a control character" EINVAL 'leak:\x1b[31m\n' "options/suppressions: pid: line 1: byte 0x1b is not plain text"
refused "a NUL" EINVAL 'leak:a\x00b\n' "options/suppressions: pid: line 1: byte 0x00 is not plain text"
refused "a long pattern" EINVAL "leak:$(printf '%0256d' 0)\\n" \
	"options/suppressions: pid: line 1: a pattern of more than 255 bytes"
refused "many patterns" ENOSPC "$(for _ in $(seq 257); do printf 'leak:x\\n'; done)" \
	"options/suppressions: pid: line 257: more than 256 patterns"
eq "too long" E2BIG "$(op fill "$SUPPRESSIONS" 16385)"
eq "far too long" E2BIG "$(op fill "$SUPPRESSIONS" 1000000)"
{ head -c 16000 /dev/zero | tr '\0' '#'; echo; } >"$T/long"
cat "$T/long" >"$SUPPRESSIONS" || fail "a long list"
( cat "$T/long" >>"$SUPPRESSIONS" ) 2>"$T/err" && fail "twice a long list was taken"
same "the long list is there once" "$T/long" "$SUPPRESSIONS"
( printf 'leak:y\n' | dd of="$SUPPRESSIONS" bs=7 seek=1 conv=notrunc ) 2>"$T/err" && fail "a write in the middle was taken"
same "nothing in the middle" "$T/long" "$SUPPRESSIONS"
eq "in the middle: error_log" "options/suppressions: pid: a write is at the beginning or at the end" \
	"$(tail -n 1 "$M/error_log" | sed 's/^.* options/options/; s/pid [0-9]*/pid/')"
command reset
same "reset keeps options" "$T/long" "$SUPPRESSIONS"
echo >"$SUPPRESSIONS"

# ---- an unprivileged user ----
if [ "$ROOT" = yes ]; then
	eq "nobody: clear" EACCES "$(op_nobody write "$M/ctl" 'clear\n')"
	eq "nobody: suppressions" EACCES "$(op_nobody write "$SUPPRESSIONS" 'leak:*\n')"
	eq "nobody: min_size" EACCES "$(op_nobody write "$M/options/min_size" '1\n')"
	eq "nobody reads them" 1 "$(as_nobody cat "$SUPPRESSIONS" | wc -c)"
	eq "nothing was cleared" - "$(stat_of cleared)"
fi

# ---- 100 000 at once ----
N=100000
sender_start a 144
command clear
say a fill 0 dram 0x100000 0x1000 $N 512
sender_start b 144
say b alloc 1 dram 0x10 7
command scan
eq "all of them outlived" "$((N + 1))" "$(stat_of suspects_outlived)"
eq "and are listed" "$((N + 1))" "$(find "$M/leaks" -type f | wc -l)"
sender_kill a
eq "kill -9: listed at the next look" "$((N + 1))" "$(find "$M/leaks" -type f | wc -l)"
eq "of whom" "$N died 1 outlived" "$(rows "$M/suspects" | awk '{ n[$1]++ } END { print n["died"], "died", n["outlived"], "outlived" }')"
command clear
eq "cleared" "0 0" "$(find "$M/leaks" -type f | wc -l) $(stat_of suspects)"
command "clean dead"
eq "cleaned" 1 "$(stat_of live_buffers)"
sender_end b
server_stop
