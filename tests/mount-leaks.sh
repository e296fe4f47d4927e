#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A client that dies by SIGKILL: everything it had published is there, and what it still held is listed in leaks/ and
# suspects at the next open. `clean` and `scan`.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1

# leak_names: what leaks/ must list, made from the rows of suspects
leak_names() { rows "$M/suspects" | awk '{ print "pid" $7 "-device" $2 "-" $3 "-" $4 "-" $12 }' | sort | xargs; }
# without the age
suspects() { rows "$M/suspects" | awk '{ $10 = "AGE"; print }' | sort; }

server_start
eq "no leak: suspects" "# reason device type address size refs pid uid state age_s time seq site tag comm" \
	"$(cat "$M/suspects")"
eq "no leak: leaks/" "" "$(ls -A "$M/leaks")"

# ---- killed with buffers ----
UID_=$(id -u)
sender_start a 144 --comm "my prog%1"
A=${SENDER_PID[a]}
sender_start b 72
B=${SENDER_PID[b]}
# when: the time of the last allocation, as the mount writes it
when() { sed 's/^ok \(.*\)\(......\)...$/\1.\2/' <<<"$ANSWER"; }
say a alloc 0 dram 0x1000 12288
T1=$(when)
say a alloc 0 dram 0x1000 12288
say a alloc 1 l1 0x2000 512
T2=$(when)
say a cb 1 0x2000 64
T3=$(when)
say a kernel 2 7 4096 2
T4=$(when)
say a alloc 0 dram 0x9000 1
say a free 0 0x9000
say b alloc 0 dram 0x1000 5
eq "alive: no suspect" "" "$(rows "$M/suspects")"
sender_kill a

eq "leaks/ at the next look" 4 "$(ls "$M/leaks" | wc -l)"
seq_of() { rows "$M/allocs" | awk -v t="$1" -v p="$2" '$2 == t && $6 == p { print $9 }'; }
want="died 0 dram 0x000000001000 12288 2 $A $UID_ dead AGE $T1 $(seq_of dram $A) - - my%20prog%251
died 1 cb 0x000000002000 64 1 $A $UID_ dead AGE $T3 $(seq_of cb $A) - - my%20prog%251
died 1 l1 0x000000002000 512 1 $A $UID_ dead AGE $T2 $(seq_of l1 $A) - - my%20prog%251
died 2 kernel 0x000000000007 4096 1 $A $UID_ dead AGE $T4 $(seq_of kernel $A) - - my%20prog%251"
eq "suspects" "$want" "$(suspects)"
eq "leaks/ are the suspects" "$(leak_names)" "$(names "$M/leaks")"
eq "the names" "pid$A-device0-dram-0x000000001000-$(seq_of dram $A) pid$A-device1-cb-0x000000002000-$(seq_of cb $A) \
pid$A-device1-l1-0x000000002000-$(seq_of l1 $A) pid$A-device2-kernel-0x000000000007-$(seq_of kernel $A)" \
	"$(names "$M/leaks")"
eq "stats suspects" 4 "$(stat_of suspects)"
like "age_s" '[0-9]+\.[0-9]+ [0-9]+\.[0-9]+ [0-9]+\.[0-9]+ [0-9]+\.[0-9]+' \
	"$(rows "$M/suspects" | awk '{ print $10 }' | xargs)"
leak=$M/leaks/pid$A-device0-dram-0x000000001000-$(seq_of dram $A)
eq "record: reason" died "$(key "$leak" reason)"
eq "record: state" dead "$(key "$leak" state)"
like "record: ended" '[0-9]+\.[0-9]{6}' "$(key "$leak" ended)"
eq "record: size" 12288 "$(key "$leak" size)"
eq "record: refs" 2 "$(key "$leak" refs)"
eq "record: pid" "$A" "$(key "$leak" pid)"
eq "record: comm" "my%20prog%251" "$(key "$leak" comm)"
grep -q '^history allocs=2 frees=0' "$leak" || fail "the leak's record has no history: $(cat "$leak")"
eq "record: attributes" "24 ${T1%.*} $UID_" "$(stat -c '%b %Y %u' "$leak")"
eq "record: length" "$(stat -c %s "$leak")" "$(wc -c <"$leak")"
eq "a leak that is none" ENOENT "$(op stat "$M/leaks/pid$A-device0-dram-0x000000001000-999999")"
eq "a leak that is none" ENOENT "$(op stat "$M/leaks/pid$B-device0-dram-0x000000001000-$(seq_of dram $B)")"
eq "a leak that is none" ENOENT "$(op stat "$M/leaks/x")"
like "rm of a leak" "EPERM|EACCES" "$(op unlink "$leak")"

# the dead stays known, its buffers count
eq "processes" "dead 7 4 16960" "$(awk -v p="$A" '$1 == p { print $3, $5, $7, $8 }' "$M/processes")"
eq "status" "dead" "$(key "$M/pids/$A/status" state)"
like "status: ended" '[0-9]+\.[0-9]{6}' "$(key "$M/pids/$A/status" ended)"
eq "still live buffers" 5 "$(stat_of live_buffers)"
eq "two records, one name: newest first" "5 12288" "$(xargs < <(key "$M/device0/dram/0x000000001000" size))"
eq "one name" "0x000000001000" "$(ls "$M/device0/dram")"

# ---- commands ----
echo scan >"$M/ctl"
eq "scan finds the same" 4 "$(ls "$M/leaks" | wc -l)"
eq "clean of the living" EBUSY "$(op write "$M/ctl" "clean $B\\n")"
echo "clean dead" >"$M/ctl"
eq "clean dead: leaks/" "" "$(ls -A "$M/leaks")"
eq "clean dead: suspects" "" "$(rows "$M/suspects")"
eq "clean dead: the living stays" "1 dram $B" "$(rows "$M/allocs" | awk '{ n++; t = $2; p = $6 } END { print n, t, p }')"
eq "clean dead: totals" "1 5" "$(sum_row 0 dram | cut -d ' ' -f 1,2)"
eq "clean dead: the record" ENOENT "$(op stat "$leak")"
eq "clean dead: device1" "0 0" "$(sum_row 1 total | cut -d ' ' -f 1,2)"
eq "clean again: nothing to do" 11 "$(op write "$M/ctl" 'clean dead\n')"

# ---- clean of one process ----
sender_start c 128
CC=${SENDER_PID[c]}
say c alloc 0 l1 0x10 100
sender_start d 112
D=${SENDER_PID[d]}
say d alloc 0 l1 0x10 200
sender_kill c
sender_kill d
eq "two dead" "0x000000000010 0x000000000010" "$(rows "$M/suspects" | awk '{ print $4 }' | xargs)"
echo "clean $CC" >"$M/ctl" || fail "clean of a dead process"
eq "one dead left" "$D" "$(rows "$M/suspects" | awk '{ print $7 }')"
echo clean >"$M/pids/$D/ctl" || fail "clean in its own file"
eq "none left" "" "$(ls -A "$M/leaks")"
eq "clean $B force" "$((${#B} + 13))" "$(op write "$M/ctl" "clean $B force\\n")"
eq "nothing left" 0 "$(stat_of live_buffers)"

# ---- an address whose owner died is used again: both are there, the old one as a suspect ----
sender_start e 144
E=${SENDER_PID[e]}
say e alloc 4 dram 0x40 100
sender_kill e
sender_start f 144
F=${SENDER_PID[f]}
say f alloc 4 dram 0x40 300
eq "both owners' records, newest first" "300 100 $F $E" \
	"$( (key "$M/device4/dram/0x000000000040" size; key "$M/device4/dram/0x000000000040" pid) | xargs)"
eq "the old owner's leak" "100 $E" "$(rows "$M/suspects" | awk '{ print $5, $7 }')"
eq "both count" "2 400" "$(sum_row 4 dram | cut -d ' ' -f 1,2)"
say f free 4 0x40
eq "freed is the own one" "100 $E" "$(rows "$M/device4/allocs" | awk '{ print $4, $6 }')"
echo "reset history" >"$M/ctl"
eq "reset history: no suspect" "" "$(ls -A "$M/leaks")"
eq "reset history: the buffer is there" "1 100" "$(sum_row 4 dram | cut -d ' ' -f 1,2)"
echo "clean dead" >"$M/ctl"

# ---- closing the connection is not death; exit is ----
say f alloc 4 dram 0x50 1
say f close
eq "closed: no leak" "" "$(ls -A "$M/leaks")"
eq "closed: live" "live" "$(key "$M/pids/$F/status" state)"
say f connect
say f free 4 0x50
eq "reconnected: its own buffer" "0" "$(stat_of live_buffers)"
say f alloc 4 dram 0x50 1
sender_end f
eq "exit: a leak" "pid$F-device4-dram-0x000000000050" "$(ls "$M/leaks" | sed 's/-[0-9]*$//')"

# ---- 500 times: killed by itself in the middle, complete at the next look ----
echo reset >"$M/ctl"
rc "500 deaths" 0 py "$TOOLS/deaths.py" "$M" "$C" 500
server_stop
