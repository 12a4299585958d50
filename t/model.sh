#!/usr/bin/env bash
# events and report against a model (t/e2e/model.py), at length: random changes, then as many random
# reports, each in three formats, and lists.  Takes about half an hour.
# Usage: t/model.sh [EVENTS [FILTERS [BUILD-FOLDER]]]; CAREDESK_MODEL_SEED repeats a run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CAREDESK_SOURCE=$PWD CAREDESK_BUILD=${3:-$PWD/build}
export CAREDESK_MODEL_EVENTS=${1:-1000000} CAREDESK_MODEL_FILTERS=${2:-10000}
export CAREDESK_MODEL_OPERATIONS=${CAREDESK_MODEL_OPERATIONS:-20000}
export CAREDESK_MODEL_CAREGIVERS=${CAREDESK_MODEL_CAREGIVERS:-100}
export CAREDESK_MODEL_YEARS=${CAREDESK_MODEL_YEARS:-5}
CAREDESK_BUILD=$(cd "$CAREDESK_BUILD" && pwd)
exec python3 -B t/e2e/model.py
