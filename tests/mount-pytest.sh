#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# contrib/python/pytest_ttalloc.py: a real pytest, with programs that leak, on a real server.

# shellcheck source=lib.sh disable=SC2119
. "$(dirname "$0")/lib.sh" || exit 1

server_start
export TTALLOCD TTALLOC_WORKLOAD TMPDIR=$T
export TT_MOUNT=$M TT_COMPAT=$C TTALLOC_SOCKET=$S TT_SERVER=$SERVER
rc "the plugin" 0 py "$TESTS/test_pytest_plugin.py" -v "${@:2}"
server_stop
