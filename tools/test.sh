#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs the tests with the pytest that is given: those in guests beside all others, on a core each.
# Fails if either fails; says the closing lines of both.
set -euo pipefail

guests=$(mktemp)
"$@" -m "vm and not soak" > "$guests" 2>&1 &
child=$!
trap 'kill "$child" 2> /dev/null || true; rm -f "$guests"' EXIT

failed=0
"$@" -m "not vm and not soak" || failed=$?
wait "$child" || failed=$?
echo "--- in guests"
cat "$guests"
exit "$failed"
