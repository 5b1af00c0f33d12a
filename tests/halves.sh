#!/bin/sh
# All tests, in two halves side by side: those that mostly wait for processes, and the others, which compute. One behind
# the other they take twice the time on two processors. Ends with 0 if both halves do; the first is shown after the second.
# Usage: halves.sh PYTEST

pytest=$1
waiting="tests/faults tests/runtime"

shown=$(mktemp) || exit 1
# The cache is the other half's: two writers would spoil it.
# shellcheck disable=SC2086
"$pytest" -p no:cacheprovider $waiting >"$shown" 2>&1 &
first=$!
trap 'kill "$first" 2>/dev/null; rm -f "$shown"' EXIT
trap 'exit 130' INT TERM HUP

# shellcheck disable=SC2046
"$pytest" $(printf -- '--ignore=%s ' $waiting)
second=$?
wait "$first"
status=$?
cat "$shown"
[ "$second" -eq 0 ] || exit "$second"
exit "$status"
