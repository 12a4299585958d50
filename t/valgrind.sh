#!/usr/bin/env bash
# valgrind over 10,000 mixed requests: t/valgrind.sh [BUILD-FOLDER]
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
for program in coalesce health; do
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
say "10,000 requests"
ask "$base/api/coalescence/default?member_id=[1-4000]"
ask "$base/api/coalescence/avg?explain=true&member_id=3&n=[1-2000]"
ask "$base/api/coalescence/nope?n=[1-1000]"
ask --data '{"a": [1, 2, 3]}' "$base/api/coalescence/default?n=[1-1000]"
ask --head "$base/api/coalescence/min?member_id=2&n=[1-500]"
ask --request OPTIONS "$base/api/coalescence/min?n=[1-500]"
ask "$base/api/coalescence/%ff?n=[1-250]"
ask "$base/api/coalescence/default?require=all&member_id=3&n=[1-250]"
ask "$base/healthz?n=[1-250]"
ask --header 'Accept: text/html' "$base/api/coalescence/max?member_id=1&n=[1-250]"

kill "$pid"
wait "$pid"
pid=
counted=$(grep -c '"event":"request"' "$dir/err")
say "$counted requests reached the programs"
[ "$counted" -ge 10000 ] || { say "fewer than 10,000"; exit 1; }
if find "$dir/logs" -type f -size +0 | grep -q .; then
	cat "$dir"/logs/*
	exit 1
fi
say "valgrind found nothing"
