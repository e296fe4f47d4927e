#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# 8 processes with 100 000 random events each, with faults, killed at random: at the end every total, counter and list
# equals that of an independent model, exactly. TT_STRESS_EVENTS, TT_STRESS_SEED: other numbers.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1

EVENTS=${TT_STRESS_EVENTS:-100000}
SEED=${TT_STRESS_SEED:-20261120}

rc "the model keeps the rules" 0 py "$TESTS/model.py" --self-test

server_start
rc "concurrent" 0 py "$TESTS/stress.py" --mount "$M" --socket "$C" --seed "$SEED" concurrent --events "$EVENTS"
eq "history had room" 0 "$(stat_of history_dropped)"
server_stop

server_start
rc "serial" 0 py "$TESTS/stress.py" --mount "$M" --socket "$S" --seed "$SEED" serial --events 20000
server_stop
