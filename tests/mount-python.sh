#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# contrib/python/ttalloc.py against a real server: what programs in Python report is in the mount.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1

server_start
TT_MOUNT=$M TTALLOC_SOCKET=$S rc "the programs" 0 py "$TESTS/test_ttalloc.py" -v Mounted
server_stop
