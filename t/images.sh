#!/usr/bin/env bash
# kill -9 of accounts and of everything under uploads and deletions of images (t/e2e/images_crash.py), at length: every
# link shows its picture, and no file is left.  About a third of a second a round; CAREDESK_IMAGES_SEED repeats one.
# Usage: t/images.sh [ROUNDS [BUILD-FOLDER]]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CAREDESK_SOURCE=$PWD CAREDESK_BUILD=${2:-$PWD/build} CAREDESK_IMAGES_ROUNDS=${1:-1000}
CAREDESK_BUILD=$(cd "$CAREDESK_BUILD" && pwd)
exec python3 -B t/e2e/images_crash.py
