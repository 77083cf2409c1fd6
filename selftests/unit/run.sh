#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Run test programs that print TAP, as one KTAP document with a subtest each.
# $RUNNER goes before each program, which is ended after $TEST_TIMEOUT seconds.
# Exit: 0 where all are well.

fail=0
n=0
echo "KTAP version 1"
echo "1..$#"
for program in "$@"; do
	n=$((n + 1))
	name=$(basename "$program")
	log=$program.log
	# What is said on stderr is shown where the test fails.
	# shellcheck disable=SC2086 # several words, or none
	timeout "${TEST_TIMEOUT:-600}" $RUNNER "$program" >"$log" 2>"$log.err"
	code=$?
	echo "  KTAP version 1"
	sed 's/^/  /' "$log"
	if [ $code -eq 0 ] && grep -q '^1\.\.[1-9]' "$log"; then
		echo "ok $n $name"
	else
		sed 's/^/  # /' "$log.err"
		echo "not ok $n $name # exit code $code"
		fail=1
	fi
done
exit $fail
