#!/usr/bin/env bash
# Every allocation and every call that touches a file fails, on every route (t/e2e/torture.py); and while programs,
# commands and migrations begin (t/e2e/torture_start.py): about 45 minutes.
# CAREDESK_TORTURE_ONLY=WORD: only routes, programs and commands with it.  What came of each route is said as it is done.
# Usage: t/torture.sh [BUILD-FOLDER [TEST]]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CAREDESK_SOURCE=$PWD CAREDESK_BUILD=${1:-$PWD/build} CAREDESK_TORTURE=all
CAREDESK_BUILD=$(cd "$CAREDESK_BUILD" && pwd)
make --silent -C "$CAREDESK_BUILD" fault.so
out=$(mktemp)
trap 'rm -f "$out"' EXIT
plans=0
for file in torture torture_start; do
	/usr/bin/python3 -B "t/e2e/$file.py" "${@:2}" | tee -a "$out" || true
	[ "$(grep -c '^1\.\.' "$out")" -gt "$plans" ] || echo "not ok - $file.py broke off" | tee -a "$out"
	plans=$(grep -c '^1\.\.' "$out" || true)
done
failed=$(grep -c '^not ok' "$out" || true)
echo "$(grep -c '^ok' "$out" || true) passed, $failed failed"
[ "$failed" -eq 0 ] && grep -q '^1\.\.[1-9]' "$out"
