#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What a filesystem of reports does not do: it says so with EPERM (not "Function not implemented"), it ignores
# truncation, and only dumps can be removed.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1

server_start
sender_start a 144
say a alloc 0 dram 0x1000 4096
say a alloc 1 l1 0x2000 4096
PID=${SENDER_PID[a]}
record=$M/device0/dram/0x000000001000

# each OUTCOME OPERATION ARGUMENT...: notes a call that `all` will try
: >"$T/wanted"
each() { printf '%s\n' "$*" >>"$T/wanted"; }
# all WHAT: tries them in order (no argument has a blank), in one process, since there are many
all() {
	CHECKS=$((CHECKS + $(wc -l <"$T/wanted")))
	cut -d ' ' -f 2- "$T/wanted" | tr ' ' '\t' | py "$TOOLS/op.py" - >"$T/outcomes"
	# for who is not root, a directory that cannot be written is a reason that the kernel finds by itself
	[ "$ROOT" = yes ] || sed -i 's/^EACCES /EPERM /' "$T/outcomes"
	same "$1" "$T/wanted" "$T/outcomes"
	: >"$T/wanted"
}

# ---- nothing can be made anywhere ----
for dir in "$M" "$M/device0" "$M/device0/dram" "$M/device0/kernel" "$M/pids" "$M/pids/$PID" "$M/leaks" "$M/dumps" "$M/marks" \
	"$M/options"; do
	for name in new 0x000000009000 device7; do
		each EPERM create "$dir/$name"
		each EPERM mkdir "$dir/$name"
		each EPERM mkfifo "$dir/$name"
		each EPERM mknod "$dir/$name"
		each EPERM bind "$dir/$name"
		each EPERM symlink /etc/passwd "$dir/$name"
		each EPERM link "$M/summary" "$dir/$name"
		each EPERM rename "$M/summary" "$dir/$name"
		each ENOENT stat "$dir/$name"
	done
done
all "making something"

# ---- nothing that is there can be changed ----
FILES="README version ctl error_log summary stats allocs suspects sites processes events trace leaks stacks pids
pids/$PID pids/$PID/status pids/$PID/allocs pids/$PID/sites pids/$PID/ctl dumps device0 device0/summary device0/info
device0/allocs device0/map device0/dram device0/dram/0x000000001000 options options/trace_events"
# shellcheck disable=SC2086
before=$(cd "$M" && stat -c '%n %f %u %g' $FILES)
for file in $FILES; do
	path=$M/$file
	each EPERM chmod "$path" 777
	each EPERM chown "$path" 1 1
	each EPERM setxattr "$path"
	each EPERM removexattr "$path"
	each EPERM rename "$path" "$M/elsewhere"
	if [ -d "$path" ]; then
		each EPERM rmdir "$path"
		each EINVAL readlink "$path"
	else
		each EPERM unlink "$path"
		each EPERM link "$path" "$M/elsewhere"
	fi
done
all "changing something"
# shellcheck disable=SC2086
eq "modes and owners" "$before" "$(cd "$M" && stat -c '%n %f %u %g' $FILES)"
words="Operation not permitted"
[ "$ROOT" = yes ] || words="Permission denied"
eq "the messages of tools" "mkdir: cannot create directory ‘$M/x’: $words" "$(mkdir "$M/x" 2>&1)"
eq "touch" "touch: cannot touch '$M/x': $words" "$(LC_ALL=C touch "$M/x" 2>&1)"

# ---- truncation is accepted and does nothing ----
for file in ctl options/trace_events options/history_per_buffer options/suppressions "pids/$PID/ctl"; do
	before=$(cat "$M/$file")
	eq "truncate $file" OK "$(op truncate "$M/$file" 0)"
	eq "O_TRUNC $file" OK "$(op otrunc "$M/$file")"
	eq "ftruncate $file" OK "$(op ftruncate "$M/$file")"
	rc ": > $file" 0 sh -c ": >'$M/$file'"
	rc "truncate -s 5 $file" 0 truncate -s 5 "$M/$file"
	eq "content of $file" "$before" "$(cat "$M/$file")"
done
for file in summary allocs "pids/$PID/status" device0/dram/0x000000001000; do # not for root either
	each EACCES openw "$M/$file"
	each EACCES otrunc "$M/$file"
	each EACCES truncate "$M/$file" 0
done
cut -d ' ' -f 2- "$T/wanted" | tr ' ' '\t' | py "$TOOLS/op.py" - >"$T/outcomes"
same "opening for writing what is only read" "$T/wanted" "$T/outcomes"
: >"$T/wanted"

# ---- unlink: dumps only ----
echo "dump one" >"$M/ctl"
echo "dump two" >"$M/ctl"
eq "the dumps" "one two" "$(names "$M/dumps")"
exec {held}<"$M/dumps/one"
rc "rm of a dump" 0 rm -f "$M/dumps/one"
eq "removed" "two" "$(ls "$M/dumps")"
eq "stat of the removed" ENOENT "$(op stat "$M/dumps/one")"
eq "who holds it reads on" "REMAINING ALLOCATED BUFFERS" "$(head -n 1 <&"$held" | cut -d ' ' -f 1-3)"
exec {held}<&-
eq "rm of what is not there" ENOENT "$(op unlink "$M/dumps/one")"
eq "rename of a dump" EPERM "$(op rename "$M/dumps/two" "$M/dumps/three")"

# ---- what is not there, and what is no directory ----
eq "no such file" ENOENT "$(op open "$M/nothing")"
eq "no such device" ENOENT "$(op stat "$M/device2")"
eq "no such device, large" ENOENT "$(op stat "$M/device99999999999999999999")"
for name in device00 device+0 device-1 device0x0 device "device 0" device1024; do
	eq "not a device: $name" ENOENT "$(op stat "$M/$name")"
done
eq "no such type" ENOENT "$(op stat "$M/device0/DRAM")"
eq "no such process" ENOENT "$(op stat "$M/pids/1")"
for name in "0$PID" "+$PID" "${PID}x" 0 -1 99999999999999999999; do
	eq "not a process: $name" ENOENT "$(op stat "$M/pids/$name")"
done
eq "a file is no directory" ENOTDIR "$(op stat "$M/summary/x")"
eq "a record is no directory" ENOTDIR "$(op listdir "$record")"
eq "a directory is no file" EISDIR "$(op write "$M/device0" x)"
eq "reading a directory" EISDIR "$(op nonblock "$M/device0")"
like "a long name" "ENAMETOOLONG|ENOENT" "$(op stat "$M/$(printf '%0300d' 0)")"
eq "a name of 255" ENOENT "$(op stat "$M/$(printf '%0255d' 0)")"

# ---- writing where nothing is written ----
if [ "$ROOT" = yes ]; then
	for file in summary events version "device0/dram/0x000000001000"; do
		as_nobody test -r "$M/$file" || fail "nobody cannot read $file"
		eq "nobody writes $file" EACCES "$(op_nobody write "$M/$file" x)"
	done
	eq "nobody writes ctl" EACCES "$(op_nobody write "$M/ctl" 'reset\n')"
	eq "nobody writes an option" EACCES "$(op_nobody write "$M/options/trace_events" '100\n')"
	eq "nobody writes another one's pids/ctl" EACCES "$(op_nobody write "$M/pids/$PID/ctl" 'clean force\n')"
	eq "nobody lists" OK "$(op_nobody listdir "$M/device0/dram")"
	eq "nothing was reset" 2 "$(stat_of live_buffers)"
fi

# ---- what this issue leaves out is not there ----
for name in export metrics; do
	eq "absent: $name" ENOENT "$(op stat "$M/$name")"
done

# ---- the tree is exactly this ----
eq "/" "README allocs ctl device0 device1 dumps error_log events leaks marks options pids processes sites stacks stats summary \
suspects trace version" "$(names "$M")"
eq "device0/" "allocs cb dram history info kernel l1 l1_small map summary system_memory trace" "$(names "$M/device0")"
eq "pids/" "$PID" "$(ls "$M/pids")"
eq "pids/<pid>/" "allocs ctl sites status" "$(names "$M/pids/$PID")"
eq "options/" "growth_marks history_per_buffer max_buffers max_clients min_age_ms min_size suppressions trace_events" \
	"$(names "$M/options")"
eq "leaks/" "" "$(ls -A "$M/leaks")"
for file in README version error_log summary stats allocs suspects processes events trace device0/summary; do
	eq "mode of $file" "regular empty file 444|regular file 444" \
		"$(stat -c '%F %a' "$M/$file" | sed 's/^regular \(empty \)*file 444$/regular empty file 444|regular file 444/')"
done
eq "mode of ctl" 664 "$(stat -c %a "$M/ctl")"
eq "mode of an option" 644 "$(stat -c %a "$M/options/trace_events")"

# ---- how it is mounted ----
line=$(grep -F " $M " /proc/self/mountinfo)
like "type" '.* - fuse\.ttalloc .*' "$line"
for option in nosuid nodev noexec; do
	like "option $option" ".*[ ,]${option}[, ].*" "$line"
done
like "option default_permissions" ".*default_permissions.*" "$line"
[ "$ROOT" = no ] || like "option allow_other" ".*allow_other.*" "$line"

sender_end a
server_stop
