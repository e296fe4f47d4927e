#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# 1000 random runs that leak nothing: no suspect. 200 leaks of all kinds sown among the same events: each is suspected,
# for its reason and with the function that made it, and nothing else is. TT_SEED_RUNS, TT_SEED_LEAKS, TT_SEED: other
# numbers.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1

SEEDS=${TTALLOC_SEEDS:-$(find_binary leak-seeds)}
[ -x "$SEEDS" ] || die "no leak-seeds; set TTALLOC_SEEDS or give the build directory"
unset TT_ALLOC_TRACKING_ENABLED TTALLOC_STACK_DEPTH

server_start
TTALLOC_SOCKET=$S rc "seeds" 0 py "$TOOLS/seeds.py" "$M" "$SEEDS" "${TT_SEED_RUNS:-1000}" "${TT_SEED_LEAKS:-200}" \
	"${TT_SEED:-20261128}"
server_stop
