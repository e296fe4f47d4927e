#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# 10 000 times: what a sender reported before its send() returned is there at the very next access of a file, and what
# it freed is gone.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1

server_start
rc "10 000 rounds" 0 py "$TOOLS/read_your_writes.py" "$M" "$S" "$C" 10000
server_stop
