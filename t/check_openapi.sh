#!/usr/bin/env bash
# docs/openapi.yaml under the rules of t/redocly.yaml, a line of TAP.  ./check installs redocly and
# says where it is; elsewhere, as in make distcheck, it may be missing.
source=${CAREDESK_SOURCE:-$(cd "$(dirname "$0")/.." && pwd)}
redocly=${CAREDESK_NODE_MODULES:-$source/t/node_modules}/@redocly/cli/bin/cli.js
words='1 - docs/openapi.yaml keeps the rules of t/redocly.yaml'

echo 1..1
if [ ! -f "$redocly" ] && [ -z "${CAREDESK_NODE_MODULES:-}" ]; then
	echo "ok $words # SKIP npm's tools are not there"
	exit 0
fi
# It calls nobody: neither with how it is used nor for a newer version.
export REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true NO_COLOR=1
if said=$(node "$redocly" lint --config "$source/t/redocly.yaml" --format stylish \
    "$source/docs/openapi.yaml" 2>&1 < /dev/null); then
	echo "ok $words"
else
	echo "not ok $words"
	printf '%s\n' "$said" | sed 's/^/#  /'
fi
