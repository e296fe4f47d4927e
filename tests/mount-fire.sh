#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Producers flat out, killed at any instruction: what they published is booked once, what found no room is counted, and
# the totals are those of their own books (fire.c). TT_FIRE_ROUNDS (1000 for a long run), TT_FIRE_SEED: other numbers.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1

FIRE=${TTALLOC_FIRE:-$(find_binary fire)}
ROUNDS=${TT_FIRE_ROUNDS:-400}
SEED=${TT_FIRE_SEED:-$(date +%s)}

server_start
TTALLOC_SOCKET=$S rc "fire" 0 "$FIRE" --mount "$M" --rounds "$ROUNDS" --seed "$SEED"
kill -CONT "$SERVER" # in case it ended between stopping the server and that
server_stop
