#!/bin/bash
# The benchmarks of tokens: what it costs to say who asks, beside asking where nobody has to.
#
#	bench/auth.sh [all|known|seen]... [--rounds N] [--seconds S]
#
# Prints a table for each: known is of a token that was seen before, seen of the first time, on one
# thread.  Candidates take turns within one run, for a machine is never twice the same: only ratios of
# one run mean anything.  All is on the loopback, in a temporary folder, on ports that are free, from
# --ports-from N on.  Uses the build named by CAREDESK_BUILD, else makes one in build-bench.

# shellcheck source=bench/common.sh
source "$(dirname "$0")/common.sh"

every_suite=(known seen)
algorithms=(HS256 ES256 RS256)
# An insurer that nobody asks: without any, caredesk would start three to try it with.
no_demo='coalesce: { upstreams: [ { name: none, url: "http://127.0.0.1:9/" } ] }'$'\n'

# The keys and the secret, a script of wrk and a file of curl's for each token.
issue_tokens() {
	local algorithm token

	mkdir "$tmp/keys"
	chmod 711 "$tmp/keys"
	"$build/bench/tokens" issue "$tmp/keys/set.json" "$tmp/keys/secret" >"$tmp/tokens.out"
	chown "$user" "$tmp/keys"/*
	for algorithm in "${algorithms[@]}"; do
		token=$(awk -v a="$algorithm" '$1 == "token" && $2 == a { print $3 }' "$tmp/tokens.out")
		{
			cat "$tmp/report.lua"
			echo "wrk.headers[\"Authorization\"] = \"Bearer $token\""
		} >"$tmp/$algorithm.lua"
		echo "header = \"Authorization: Bearer $token\"" >"$tmp/$algorithm.curl"
	done
}

# DATA SETTINGS: a service with an event, in $house.
start_with_event() {
	house_settings=$2$no_demo
	start_house "$tmp/$1"
	house=$caredesk
	post_json "$house/events/types" '{"name":"Home visit","amount_in_cents":25050}'
	post_json "$house/events" '{"type_id":1,"caregiver_id":17,"start_time":"2026-11-20T10:00:00Z"}'
}

post_json() {
	curl -sSf -o "$tmp/answer" -K "$tmp/HS256.curl" -H 'Content-Type: application/json' -d "$2" "$1"
}

bench_known() {
	local off on algorithm round

	issue_tokens
	start_with_event data ''
	off=$house/events/1
	start_with_event data-auth "auth:
  mode: required
  issuer: 'https://issuer.example/'
  audience: caredesk
  algorithms: [ES256, RS256, HS256]
  jwks: $tmp/keys/set.json
  secret_file: $tmp/keys/secret
"
	on=$house/events/1
	for algorithm in "${algorithms[@]}"; do
		curl -sSf -o "$tmp/answer" -K "$tmp/$algorithm.curl" "$on"
	done
	[ "$(curl -s -o "$tmp/answer" -w '%{http_code}' "$on")" = 401 ] || die "no token is asked for"
	for ((round = 0; round < rounds; round++)); do
		measure off $clients "$off"
		measure off-sent $clients "$off" ES256
		for algorithm in "${algorithms[@]}"; do
			measure "$algorithm" $clients "$on" "$algorithm"
		done
	done
	head_of_table "known: GET /events/ID, $clients clients"
	row off "auth.mode: off"
	row off-sent "auth.mode: off, with a token that nobody reads" off
	for algorithm in "${algorithms[@]}"; do
		row "$algorithm" "$algorithm" off
	done
}

bench_seen() {
	local algorithm round

	for ((round = 0; round < rounds; round++)); do
		for algorithm in "${algorithms[@]}"; do
			"$build/bench/tokens" rate "$algorithm" "$seconds" | sed -n 's/^rate //p' \
			    >>"$tmp/results/seen-$algorithm"
		done
	done
	echo
	echo "### seen: tokens that are checked for the first time, a second of one processor"
	echo
	echo "| signed by | tokens/s | µs each |"
	echo "| --- | --- | --- |"
	for algorithm in "${algorithms[@]}"; do
		awk -v a="$algorithm" -v n="$(column "seen-$algorithm" 1)" \
		    'BEGIN { printf "| %s | %d | %.0f |\n", a, n, 1e6 / n }'
	done
}

read_options "$@"
# shellcheck disable=SC2119	# it takes the names of tools
begin
run_suites
