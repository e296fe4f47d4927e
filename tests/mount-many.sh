#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Thousands of connections; a slow, silent, greedy or malformed sender hurts nobody else.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1

# A server that is started with the usual soft limit of open files has to see to its own needs.
ulimit -S -n 1024
server_start
rc "many" 0 py "$TOOLS/many.py" "$M" "$C"
server_stop
