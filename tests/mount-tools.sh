#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Any shell tool works on the mount while programs are running: each prints exactly the right thing, and ends.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1

server_start
# Devices 8 and 9 belong to `a` and do not change while the tools look. Devices 10 and 11 churn all the time, by a
# running sender, and devices 0 to 3 by the workload, which must not disturb anything.
sender_start a 144
PID=${SENDER_PID[a]}
ME=$(id -un)
MY_UID=$(id -u)
i=1
TIMES=
for size in 12288 512 1048576 513 5000000; do
	say a alloc 8 dram $((0x40000000 + i * 0x1000000)) $size
	TIMES="$TIMES ${ANSWER:3:10}"
	i=$((i + 1))
done
# a file between the old and the new ones
touch -d "@${ANSWER:3:10}.${ANSWER:13}" "$T/between"
say a alloc 8 dram 0x50000000 4096
TIMES="$TIMES ${ANSWER:3:10}"
say a alloc 8 l1 0x100 2048
say a cb 8 0x20000 1024
say a kernel 9 0x1000 8192 0
for n in $(seq 1 120); do # longer than a screen and than any tool's first read
	say a alloc 9 dram $((0x1000000 + n * 0x10000)) $((n * 512))
done
DEV=$M/device8
DRAM=$DEV/dram
RECORD=$DRAM/0x000041000000
ADDRESSES="0x000041000000 0x000042000000 0x000043000000 0x000044000000 0x000045000000 0x000050000000"
DRAM_BYTES=$((12288 + 512 + 1048576 + 513 + 5000000 + 4096))
DRAM_BLOCKS=$((24 + 1 + 2048 + 2 + 9766 + 8))
: &
GONE=$! # a process that has ended
wait $GONE

"$PYTHON" "$T/py/tools/churn.py" "$C" 10 >"$T/churn.out" &
CHURN=$!
WORKLOAD=
if [ -n "$TTALLOC_WORKLOAD" ]; then
	TT_ALLOC_TRACKING_ENABLED=1 "$TTALLOC_WORKLOAD" --socket "$S" --devices 4 --steps 0 --rate 100000 >"$T/workload.out" 2>&1 &
	WORKLOAD=$!
fi

# What python reads with one large read(); everything below must give the same bytes.
read_whole() { py -c 'import os, sys; fd = os.open(sys.argv[1], os.O_RDONLY); b = b"".join(iter(lambda: os.read(fd, 1 << 20), b"")); os.write(1, b)' "$1"; }
for file in device8/summary device8/allocs device9/allocs "pids/$PID/allocs" \
	device8/dram/0x000041000000 README version; do
	path=$M/$file
	read_whole "$path" >"$T/whole"
	[ -s "$T/whole" ] || fail "$file is empty"
	LINES_=$(grep -c '' "$T/whole")
	BYTES=$(stat -c %s "$T/whole")
	LAST=$(awk 'END { print }' "$T/whole")

	cat "$path" >"$T/got" && same "cat $file" "$T/whole" "$T/got"
	eq "head -n 1 $file" "$(awk 'NR == 1' "$T/whole")" "$(head -n 1 "$path")"
	eq "head -c1 $file" "$(dd if="$T/whole" bs=1 count=1 2>/dev/null)" "$(head -c1 "$path")"
	head "$path" >"$T/got"
	awk 'NR <= 10' "$T/whole" >"$T/want"
	same "head $file" "$T/want" "$T/got"
	eq "tail -n 1 $file" "$LAST" "$(tail -n 1 "$path")"
	tail "$path" >"$T/got"
	awk -v n="$LINES_" 'NR > n - 10' "$T/whole" >"$T/want"
	same "tail $file" "$T/want" "$T/got"
	tail -c 7 "$path" >"$T/got"
	py -c 'import sys; sys.stdout.buffer.write(open(sys.argv[1], "rb").read()[-7:])' "$T/whole" >"$T/want"
	same "tail -c 7 $file" "$T/want" "$T/got"
	tail -n +2 "$path" >"$T/got"
	awk 'NR > 1' "$T/whole" >"$T/want"
	same "tail -n +2 $file" "$T/want" "$T/got"
	tail -f --pid=$GONE "$path" >"$T/got" 2>"$T/err"
	awk -v n="$LINES_" 'NR > n - 10' "$T/whole" >"$T/want"
	same "tail -f $file" "$T/want" "$T/got"
	eq "tail -f $file: complaints" "" "$(cat "$T/err")"
	eq "wc $file" "$LINES_ $(wc -w <"$T/whole") $BYTES" "$(wc "$path" | awk '{ print $1, $2, $3 }')"
	eq "wc -c < $file" "$BYTES" "$(wc -c <"$path")"
	eq "wc -l < $file" "$LINES_" "$(wc -l <"$path")"
	cp "$path" "$T/copy" && same "cp $file" "$T/whole" "$T/copy"
	rm -f "$T/copy"
	for bs in 1 7 512 4095 1M; do
		[ $bs = 1 ] && [ "$BYTES" -gt 2000 ] && continue
		dd if="$path" of="$T/got" bs=$bs 2>"$T/dd.err" || fail "dd bs=$bs $file"
		same "dd bs=$bs $file" "$T/whole" "$T/got"
	done
	dd if="$path" bs=7 skip=3 2>/dev/null >"$T/got"
	dd if="$T/whole" bs=7 skip=3 2>/dev/null >"$T/want"
	same "dd skip $file" "$T/want" "$T/got"
	eq "sha256sum twice $file" "$(sha256sum <"$T/whole")" "$(sha256sum <"$path")"
	eq "sha256sum $file again" "$(sha256sum "$path")" "$(sha256sum "$path")"
	sort "$path" >"$T/got"
	sort "$T/whole" >"$T/want"
	same "sort $file" "$T/want" "$T/got"
	less "$path" >"$T/got" </dev/null && same "less to a pipe $file" "$T/whole" "$T/got"
	cmp "$path" "$T/whole" || fail "cmp $file"
	diff "$path" "$T/whole" >/dev/null || fail "diff $file"
	# these two go by the length that fstat tells
	rm -f "$T/copy"
	py -c 'import shutil, sys; shutil.copyfile(sys.argv[1], sys.argv[2])' "$path" "$T/copy"
	same "shutil.copyfile $file" "$T/whole" "$T/copy"
	tac "$path" >"$T/got"
	tac "$T/whole" >"$T/want"
	same "tac $file" "$T/want" "$T/got"
	awk '{ print }' "$path" >"$T/got" && same "awk $file" "$T/whole" "$T/got"
	sed -n p "$path" >"$T/got" && same "sed $file" "$T/whole" "$T/got"
	for shell in sh bash; do
		# shellcheck disable=SC2016
		$shell -c 'while IFS= read -r line; do printf "%s\n" "$line"; done' <"$path" >"$T/got"
		same "$shell read $file" "$T/whole" "$T/got"
	done
	py "$TOOLS/readers.py" "$path" "$T/whole" || fail "python on $file"
done

# ---- numbers, not only bytes ----
eq "head -1 allocs" "# device type address size refs pid uid time seq site tag comm" "$(head -1 "$DEV/allocs")"
eq "awk" $DRAM_BYTES "$(awk '$2 == "dram" { s += $4 } END { print s }' "$DEV/allocs")"
eq "sort by size" "5000000 1048576 12288" "$(rows "$DEV/allocs" | sort -k4,4nr | head -n 3 | awk '{ print $4 }' | xargs)"
eq "device0/summary" "dram 6 $DRAM_BYTES $DRAM_BYTES - - 6 0" "$(sed -n 2p "$DEV/summary")"
eq "device0/summary, total" "total 8 $((DRAM_BYTES + 3072)) $((DRAM_BYTES + 3072)) - - 8 0" "$(tail -n 1 "$DEV/summary")"
eq "ls" "$ADDRESSES" "$(echo "$(ls "$DRAM")" | tr "\n" " " | sed "s, $,,")"
eq "ls -la" "$(paste -d ' ' <(tr ' ' '\n' <<<"${TIMES# }") <(tr ' ' '\n' <<<"$ADDRESSES") | sed "s/^/-r--r--r-- 1 $ME /")" \
	"$(ls -la --time-style=+%s "$DRAM" | awk '/^-/ { print $1, $2, $3, $6, $7 }')"
eq "ls -la: total" "total $(((DRAM_BLOCKS + 1) / 2))" "$(ls -la "$DRAM" | head -n 1)"
eq "ls -la: the length is the text's" "$(wc -c <"$RECORD")" "$(ls -la "$RECORD" | awk '{ print $5 }')"
eq "ls -lst: newest first" "0x000050000000" "$(ls -lst "$DRAM" | awk 'NR == 2 { print $NF }')"
eq "ls -s" 24 "$(ls -s --block-size=512 "$RECORD" | awk '{ print $1 }')"
eq "du -sh" 5.8M "$(du -sh "$DRAM" | awk '{ print $1 }')"
eq "du -sB1" $((DRAM_BLOCKS * 512)) "$(du -sB1 "$DRAM" | awk '{ print $1 }')"
eq "du -a -t 1M" "0x000043000000 0x000045000000" \
	"$(cd "$DRAM" && du -a -t 1M . | awk '$2 != "." { print substr($2, 3) }' | sort | xargs)"
eq "find -mmin -60" "$ADDRESSES" "$(find "$DRAM" -type f -mmin -60 -printf '%f\n' | sort | xargs)"
eq "find -mmin +60" "" "$(find "$DRAM" -type f -mmin +60)"
eq "find -newer" "0x000050000000" "$(find "$DRAM" -type f -newer "$T/between" -printf '%f\n')"
eq "find ! -newer" "${ADDRESSES% *}" "$(find "$DRAM" -type f ! -newer "$T/between" -printf '%f\n' | sort | xargs)"
eq "find -user" "$ADDRESSES" "$(find "$DRAM" -type f -user "$MY_UID" -printf '%f\n' | sort | xargs)"
eq "find -user of somebody else" "" "$(find "$DRAM" -type f -user 12345)"
eq "find -printf %k" "12 1 1024 1 4883 4" "$(find "$DRAM" -type f -printf '%f %k\n' | sort | awk '{ print $2 }' | xargs)"
eq "find -size of the allocation by blocks" 1 "$(find "$DRAM" -type f -printf '%b\n' | grep -cx 2048)"
eq "stat" "regular file 24 512 444 $MY_UID $(cut -d " " -f 2 <<<"$TIMES")" "$(stat -c '%F %b %B %a %u %Y' "$RECORD")"
eq "stat -f" fuseblk "$(stat -f -c %T "$M")"
rc "df" 0 df "$M" >/dev/null
eq "test -r" yes "$([ -r "$RECORD" ] && echo yes)"
eq "file globbing" 6 "$(set -- "$DRAM"/*; echo $#)"

# ---- grep -r over the whole mount (but what is remembered: tens of thousands of files, soon) ----
SEQ=$(key "$RECORD" seq)
grep -rl --exclude-dir=history "^seq $SEQ\$" "$M" >"$T/got" 2>"$T/err"
like "grep -r: exit status" '0|2' $?
eq "grep -r: found" "$RECORD" "$(cat "$T/got")"
# `events` has nothing for a reader that does not wait, and a churning buffer may be gone when grep opens it
eq "grep -r: complaints" "" "$(grep -v -e "^grep: $M/events: Resource temporarily unavailable" \
	-e "^grep: $M/device[0-3]/.*: No such file or directory" -e "^grep: $M/device1[01]/.*: No such file" "$T/err")"
eq "grep -rh" "address 0x000050000000" "$(grep -rhs "^address 0x000050000000" "$DEV")"
eq "grep -rl of one device" "120" "$(grep -rl "^pid $PID" "$M/device9/dram" | wc -l)"
eq "grep -rc" "120" "$(grep -r "^size" "$M/device9/dram" | wc -l)"

# ---- tar ----
(cd "$M" && tar c device8 device9 README version) >"$T/tar" 2>"$T/err"
eq "tar c: exit status" 0 $?
eq "tar c: complaints" "" "$(cat "$T/err")"
eq "tar t" "$(cd "$M" && find device8 device9 README version | sort)" "$(tar tf "$T/tar" | sed 's,/$,,' | sort)"
mkdir "$T/untar"
tar xf "$T/tar" -C "$T/untar" --no-same-owner
cmp "$T/untar/device8/dram/0x000041000000" "$RECORD" || fail "tar x: the record"
cmp "$T/untar/device9/dram/0x000001010000" "$M/device9/dram/0x000001010000" || fail "tar x: another record"
eq "tar c | tar t" "$(names "$DRAM" | tr ' ' '\n' | sed 's,^,dram/,')" \
	"$(tar c -C "$DEV" dram | tar t | grep -v '/$' | sort)"
cp -r "$DEV" "$T/copied"
eq "cp -r" "$(cd "$DEV" && find . | sort)" "$(cd "$T/copied" && find . | sort)"
cmp "$T/copied/summary" "$DEV/summary" || fail "cp -r: summary"
cmp "$T/copied/allocs" "$DEV/allocs" || fail "cp -r: allocs"

# ---- on a terminal ----
py "$TOOLS/inpty.py" less -FX "$RECORD" >"$T/got"
eq "less -F: exit status" 0 $?
eq "less -F on a terminal" "$(cat "$RECORD")" "$(sed 's/[ \t]*$//' "$T/got" | grep -v '^$')"
py "$TOOLS/inpty.py" --keys 'Gq' less -X "$M/device9/allocs" >"$T/got"
eq "less: to the end and out: exit status" 0 $?
eq "less G: the last line was drawn" 1 "$(grep -c "$(tail -n 1 "$M/device9/allocs")" "$T/got")"
py "$TOOLS/inpty.py" --keys "/0x000001630000$(printf '\r')q" less -X "$M/device9/allocs" >"$T/got"
eq "less /: found" 1 "$(grep -q 0x000001630000 "$T/got" && echo 1)"
py "$TOOLS/inpty.py" --keys "q" more "$DEV/summary" >"$T/got"
grep -q "^total 8 $((DRAM_BYTES + 3072))" "$T/got" || fail "more: $(cat "$T/got")"
# watch shows a new buffer by itself
py "$TOOLS/inpty.py" --until "0x000050000000" --say "$T/a.in" "alloc 8 trace 0x777000 4096" --then "0x000000777000" \
	watch -t -n 0.1 cat "$DEV/allocs" >"$T/got"
eq "watch: exit status" 0 $?
IFS= read -r -u "${SENDER_OUT[a]}" ANSWER
eq "watch: the sender's answer" ok "${ANSWER%% *}"
say a free 8 0x777000
if [ "$ROOT" = yes ]; then
	eq "as nobody" "$(cat "$RECORD")" "$(as_nobody cat "$RECORD")"
fi

# ---- everything was still going on ----
kill -TERM "$CHURN"
wait "$CHURN"
eq "the churning sender" 0 $?
like "the churning sender did something" '[1-9][0-9]*' "$(cat "$T/churn.out")"
if [ -n "$WORKLOAD" ]; then
	kill -0 "$WORKLOAD" 2>/dev/null || fail "the workload ended: $(cat "$T/workload.out")"
	kill -TERM "$WORKLOAD"
	wait "$WORKLOAD"
fi
sender_end a
server_stop
