#!/usr/bin/env bash
# kill -9 of stats, of nginx's workers and of everything, and renaming of the log, under load (t/e2e/stats.py), at
# length: each request is counted once.  About a third of a second a round.
# Usage: t/counts.sh [ROUNDS [BUILD-FOLDER]]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CAREDESK_SOURCE=$PWD CAREDESK_BUILD=${2:-$PWD/build} CAREDESK_STATS_ROUNDS=${1:-1000}
CAREDESK_BUILD=$(cd "$CAREDESK_BUILD" && pwd)
exec python3 -B t/e2e/stats.py no_request_is_lost_or_counted_twice
