#!/bin/bash
# Ten times what the service can take, and clients that do not get on: what is still answered, how the
# rest is refused, and how soon all is as before.
#
#	t/overload.sh [all|storm|stalled]... [--rounds N] [--seconds S] [--connections N] [--times N]
#		[--heads N] [--bodies N] [--ports-from N]
#
# storm: capacity is what 64 clients get of mixed requests (bench/mix_kinds.c); then --times of it are
# offered over --connections, a request being given up after 2 s; then 64 clients again.  stalled: 64
# clients, and beside them --heads that send a byte of their head a second and --bodies that send half
# a body.  All the time /ping is asked 100 times a second.  Prints tables, and exits with 1 if an answer
# was broken or wrong, or a refusal without Retry-After.  Uses the build named by CAREDESK_BUILD, else
# makes one in build-bench.

# shellcheck source=bench/common.sh
source "$(dirname "$0")/../bench/common.sh"

every_suite=(storm stalled)
seconds=10
rounds=3
connections=2000
times=10
heads=1000
bodies=1000
numbers+=(connections times heads bodies)
faults=0

start_all() {
	take_port
	start insurer "$build/bench/slow" "$port" 0
	house_settings="auth: {mode: required, issuer: 'https://issuer.example/', audience: caredesk}
coalesce: {upstreams: [{name: alpha, url: 'http://127.0.0.1:$port/a'}]}
"
	start_house "$tmp/data"
	"$build/caredesk" token --sub overload --role admin --role accountant --data "$tmp/data" \
	    --config "$tmp/data.yaml" >"$tmp/token"
	curl -sSf -o /dev/null -H "Authorization: Bearer $(cat "$tmp/token")" \
	    -H 'Content-Type: application/json' -d '{"name":"Home visit","amount_in_cents":100}' \
	    "$caredesk/events/types"
	mix warm-up 64 0 5000
}

# NAME CONNECTIONS RATE MS: mixed requests, none of them abuse, into NAME.mix.
mix() {
	"$build/bench/mix" "$port" "$tmp/token" "$2" "$3" 0 ms "$4" 100 >"$tmp/$1.mix" \
	    2>>"$tmp/mix-$1.log" || [ $? -eq 1 ] || die "mix: $(tail -n 3 "$tmp/mix-$1.log")"
	awk '$1 == "total" && $8 + $9 > 0 { exit 1 }' "$tmp/$1.mix" || faults=1
}

# The same with /ping beside it, whose "p50-us p99-us max-us requests errors" go to NAME.ping.
mix_and_ping() {
	local pid

	"$build/bench/pace" "$port" '/ping?n=' 1000 100 $(($4 / 1000)) >"$tmp/$1.ping" &
	pid=$!
	mix "$@"
	wait $pid || die "/ping is not answered"
}

start_stalled() {
	start stall "$build/bench/stall" "$port" "$heads" "$bodies" \
	    "Authorization: Bearer $(cat "$tmp/token")"
	await grep -q holds "$tmp/stall.out"
}

# NAME: answered a second, as they must be.
goodput() {
	awk '$1 == "total" { printf "%.0f", $4 / $10 }' "$tmp/$1.mix"
}

# NAME WORDS [OTHER]: a row of the table.
storm_row() {
	local by=—

	[ $# -lt 3 ] || by=$(echo "$(goodput "$1") $(goodput "$3")" | awk '{ printf "%.2f", $1 / $2 }')
	awk -v w="$2" -v by="$by" -v ping="$(awk '{ printf "%.1f", $2 / 1000 }' "$tmp/$1.ping")" '
		$1 == "total" { printf "| %s | %d | %d | %d | %s | %d | %d | %d | %d | %s |\n", w, $2 / $10,
		    ($2 - $3) / $10, $4 / $10, by, $5 / $10, $7 / $10, $8, $9, ping }' "$tmp/$1.mix"
}

# NAME OTHER: milliseconds until half a second gave 0.9 of the other's rate.
recovery_ms() {
	awk -v wanted="$(goodput "$2")" '
		$1 == "window" { seconds[++n] = $3; answered[n] = $4 }
		END {
			for (i = 1; i + 4 <= n; i++) {
				s = a = 0
				for (j = i; j < i + 5; j++) {
					s += seconds[j]
					a += answered[j]
				}
				if (a / s >= 0.9 * wanted)
					break
				past += seconds[i]
			}
			print i + 4 <= n ? past * 1000 : "more than " past * 1000
		}' "$tmp/$1.mix"
}

print_refusals() {
	local name

	for name; do
		awk -v name="$name" '$1 == "kind" && $4 != "expected" {
			what = $2
			sub(/^kind [^ ]* /, "")
			print "# " name ": " what " of " $0
		}' "$tmp/$name.mix" | sort -t' ' -k3,3nr | head -n 12
	done
}

bench_storm() {
	local offered ms=$((seconds * 1000))

	start_all
	mix_and_ping capacity 64 0 $ms
	offered=$(($(goodput capacity) * times))
	mix_and_ping storm "$connections" "$offered" $((2 * ms))
	mix_and_ping after 64 0 $ms
	start_stalled
	mix_and_ping both "$connections" "$offered" $((2 * ms))
	mix_and_ping after-both 64 0 $ms
	echo
	echo "### storm: $times times the capacity offered for $((2 * seconds)) s over $connections connections"
	echo
	echo "| | offered/s | sent/s | answered/s | of the capacity | refused/s | given up/s | broken | wrong |" \
	    "p99 of /ping, ms |"
	echo "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
	storm_row capacity "64 clients"
	storm_row storm "$times times as many requests" capacity
	storm_row after "64 clients, at once after it" capacity
	storm_row both "$times times as many, beside $heads slow heads and $bodies stalled bodies" capacity
	storm_row after-both "64 clients, at once after it, beside them" capacity
	echo
	echo "Back at 0.9 of the capacity after $(recovery_ms after capacity) ms, and" \
	    "$(recovery_ms after-both capacity) ms beside the stalled clients."
	print_refusals storm both
}

bench_stalled() {
	local round ms=$((seconds * 1000))

	start_all
	for ((round = 0; round < rounds; round++)); do
		mix_and_ping "without-$round" 64 0 $ms
		start_stalled
		mix_and_ping "with-$round" 64 0 $ms
		stop_last
		sleep 1
		echo "$(goodput "with-$round") $(goodput "without-$round")" >>"$tmp/results/stalled"
		echo "$(cat "$tmp/with-$round.ping") $(cat "$tmp/without-$round.ping")" \
		    >>"$tmp/results/pings"
	done
	echo
	echo "### stalled: 64 clients beside $heads slow heads and $bodies stalled bodies"
	echo
	echo "| | requests/s | ratio | p99 of /ping, ms | slowest |"
	echo "| --- | --- | --- | --- | --- |"
	echo "| without | $(column stalled 2) | — | $(us_to_ms 7) | $(us_to_ms 8) |"
	echo "| with | $(column stalled 1) | $(awk '{ print $1 / $2 }' "$tmp/results/stalled" | median) |" \
	    "$(us_to_ms 2) | $(us_to_ms 3) |"
	echo
	echo "Held at the end: $(sed -n 's/^holds //p' "$tmp/stall.out" | tail -n 1)."
}

# COLUMN: of the pings.
us_to_ms() {
	column pings "$1" | awk '{ printf "%.1f", $1 / 1000 }'
}

read_options "$@"
# shellcheck disable=SC2119	# it takes the names of tools
begin
run_suites
[ $faults -eq 0 ] || {
	echo "BREACH: answers were broken or wrong"
	sed 's/^/# /' "$tmp"/mix-*.log
	exit 1
}
