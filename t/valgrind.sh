#!/usr/bin/env bash
# valgrind over 12,000 mixed requests: t/valgrind.sh [BUILD-FOLDER]
# Each program runs under memcheck, behind nginx; an error or a leak is printed and fails.
set -euo pipefail
cd "$(dirname "$0")/.."
. build-aux/setup.sh
install_packages "${run_packages[@]}" valgrind curl
build=${1:-build}
[ $# -gt 0 ] || build build all
build=$(cd "$build" && pwd)

dir=$(mktemp -d)
chmod 711 "$dir"
mkdir -m 1777 "$dir/logs"
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; wait; rm -rf "$dir"' EXIT

# caredesk takes the programs from beside itself.
cp "$build/caredesk" "$dir/"
for program in $(sed -n 's/^#define PROGRAMS //p' src/lib/programs.h | tr -d '",'); do
	cat > "$dir/$program" <<EOF
#!/bin/sh
exec valgrind --quiet --vgdb=no --leak-check=full --show-leak-kinds=definite,possible --error-exitcode=99 \\
    --log-file="$dir/logs/$program.%p" "$build/$program" "\$@"
EOF
	chmod 755 "$dir/$program"
done

port=$((20000 + RANDOM % 20000))
base=http://127.0.0.1:$port
"$dir/caredesk" run --listen 127.0.0.1:$port --data "$dir/data" > "$dir/out" 2> "$dir/err" &
pid=$!
for _ in $(seq 300); do
	grep -q '^ready' "$dir/out" && break
	kill -0 "$pid" 2>/dev/null || { cat "$dir/err"; exit 1; }
	sleep 0.1
done

ask() {
	curl --silent --no-progress-meter --parallel --parallel-max 16 --output /dev/null "$@"
}
say "12,000 requests"
ask "$base/api/coalescence/default?member_id=[1-4000]"
ask "$base/api/coalescence/avg?explain=true&member_id=3&n=[1-2000]"
ask "$base/api/coalescence/nope?n=[1-1000]"
ask --data '{"a": [1, 2, 3]}' "$base/api/coalescence/default?n=[1-1000]"
ask --head "$base/api/coalescence/min?member_id=2&n=[1-500]"
ask --request OPTIONS "$base/api/coalescence/min?n=[1-500]"
ask "$base/api/coalescence/%ff?n=[1-250]"
ask "$base/api/coalescence/default?require=all&member_id=3&n=[1-250]"
ask "$base/healthz?n=[1-250]"
ask "$base/metrics?n=[1-50]"
ask --header 'Accept: text/html' "$base/api/coalescence/max?member_id=1&n=[1-250]"

json='Content-Type: application/json'
event='{"type_id": 1, "caregiver_id": 17, "start_time": "2026-11-20T10:00:00Z"}'
ask --header "$json" --data '{"name": "x", "amount_in_cents": 100}' "$base/events/types?n=[1-3]"
ask --header "$json" --data "$event" "$base/events?n=[1-800]"
ask --header "$json" --header 'Idempotency-Key: once' --data "$event" "$base/events?n=[1-100]"
ask --header "$json" --data '{"type_id": 9, "caregiver_id": -1}' "$base/events?n=[1-100]"
for _ in $(seq 500); do echo "$event"; done |
    ask --header 'Content-Type: application/x-ndjson' --data-binary @- "$base/events?n=[1-5]"
ask --request POST "$base/events/[1-200]/reimburse"
ask --request DELETE "$base/events/[150-300]"
ask --request PUT --header "$json" --data '{"name": "y", "amount_in_cents": 7}' "$base/events/types/1?n=[1-50]"
ask "$base/events?caregiver_id=17&limit=100&n=[1-50]"
ask "$base/events?type_id=1&reimbursed=false&min_time=2020-01-01&n=[1-50]"
ask "$base/events?min_time=2020-01-01T00:00:00Z&n=[1-50]"
ask "$base/events/[1-200]"
ask "$base/events/types/1/prices?n=[1-20]"
for format in json rows csv; do
	ask "$base/events/report?format=$format&caregiver_ids=17,18&n=[1-50]"
	ask "$base/events/report?format=$format&min_time=2026-11-15T00:00:00Z&n=[1-50]"
done
ask --header "$json" --data '{"caregiver_ids": [1, 2, 17, 17]}' "$base/events/report?n=[1-50]"
ask "$base/api/one/[1-500]"
ask "$base/stats/?limit=10&n=[1-20]"
ask "$base/stats/?format=csv&prefix=/api/&n=[1-20]"
ask "$base/stats/hourly?path=/api/one/1&n=[1-20]"

kill "$pid"
wait "$pid"
pid=
counted=$(grep -c '"event":"request"' "$dir/err")
say "$counted requests reached the programs"
[ "$counted" -ge 11000 ] || { say "fewer than 11,000"; exit 1; }
# What a program confines itself by, and Debian's valgrind does not know: Landlock's first call, and seccomp.
find "$dir/logs" -type f -exec sed -i '/WARNING: unhandled .* syscall: \(444\|317\)$/,+4d' {} +
if find "$dir/logs" -type f -size +0 | grep -q .; then
	cat "$dir"/logs/*
	exit 1
fi
say "valgrind found nothing"
