#!/usr/bin/env bash
# kill -9 of events under eight writers, and storage that fails (t/e2e/crash.py, t/e2e/faults.py), at length: over a
# million events, with a foreign lock held for 30 s.  About a second a round.
# Usage: t/crash.sh [ROUNDS [EVENTS [BUILD-FOLDER]]]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CAREDESK_SOURCE=$PWD CAREDESK_BUILD=${3:-$PWD/build}
export CAREDESK_CRASH_ROUNDS=${1:-1000} CAREDESK_CRASH_EVENTS=${2:-1000000}
export CAREDESK_FAULTS_LONG=${CAREDESK_FAULTS_LONG:-30}
CAREDESK_BUILD=$(cd "$CAREDESK_BUILD" && pwd)
status=0
python3 -B t/e2e/crash.py || status=$?
python3 -B t/e2e/faults.py || status=$?
exit "$status"
