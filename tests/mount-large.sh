#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# 1 000 000 live buffers: `cat allocs` and `ls device0/dram` are complete, each buffer once, while events keep coming;
# memory per live buffer. Times are printed. TT_LARGE_COUNT: another number.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1

server_start
rc "large" 0 py "$TOOLS/large.py" "$M" "$C" "${TT_LARGE_COUNT:-1000000}"
server_stop
