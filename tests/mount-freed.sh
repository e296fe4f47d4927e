#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A freed buffer is gone for the very next access of any kind; an address that is used again shows the new record.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1

server_start
rc "records" 0 py "$TOOLS/freed.py" "$M" "$C"

# The same by the tools that people use.
sender_start a 72
record=$M/device1/dram/0x000000010000
say a alloc 1 dram 0x10000 1536
eq "stat" "3 $(id -u)" "$(stat -c '%b %u' "$record")"
eq "ls" "0x000000010000" "$(ls "$M/device1/dram")"
exec {held}<"$record"
say a free 1 0x10000
eq "stat of the freed" 1 "$(stat "$record" >/dev/null 2>&1; echo $?)"
eq "ls of the freed" "" "$(ls "$M/device1/dram")"
eq "cat of the freed" "cat: $record: No such file or directory" "$(cat "$record" 2>&1)"
eq "test -e of the freed" 1 "$([ -e "$record" ]; echo $?)"
eq "what was held open" "size 1536" "$(grep '^size' <&"$held")"
exec {held}<&-
say a alloc 1 dram 0x10000 100
eq "the new record" "size 100" "$(grep '^size' "$record")"

# a shell that stands in the directory sees the same
cd "$M/device1/dram" || die "cd"
eq "from within" "size 100" "$(grep '^size' 0x000000010000)"
say a free 1 0x10000
eq "from within, freed" "grep: 0x000000010000: No such file or directory" "$(grep size 0x000000010000 2>&1)"
cd /
sender_end a
server_stop
