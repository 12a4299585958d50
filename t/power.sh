#!/usr/bin/env bash
# Usage: power.sh [ROUNDS [SEED]]
# The power goes ROUNDS times, 1,000 if not given (see check_power.c), in the build $CAREDESK_BUILD.
set -eu
cd "${CAREDESK_SOURCE:-$(dirname "$0")/..}"
build=${CAREDESK_BUILD:-build}
make -C "$build" check_power
[ -z "${2:-}" ] || export CAREDESK_SEED=$2
ROUNDS=${1:-1000} CK_TIMEOUT_MULTIPLIER=1000 "$build/check_power"
