#!/usr/bin/env bash
# valgrind over 12,000 mixed requests, or as many as are asked for: t/valgrind.sh [BUILD-FOLDER] [REQUESTS]
# Each program runs under memcheck, behind nginx, the first half of the requests without tokens, the
# other with auth.mode required; an error or a leak is printed and fails.
set -euo pipefail
cd "$(dirname "$0")/.."
. build-aux/setup.sh
install_packages "${run_packages[@]}" valgrind curl
build=${1:-build} requests=${2:-12000}
case $requests in
'' | *[!0-9]*) say "$requests is no number of requests"; exit 1 ;;
esac
[ "$requests" -ge 2000 ] || { say "fewer than 2,000 requests are not all kinds"; exit 1; }
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

port=$((20000 + RANDOM % 12000))
base=http://127.0.0.1:$port
printf '{"auth": {"mode": "required", "issuer": "https://issuer.example/", "audience": "caredesk"}}\n' \
    > "$dir/required.yaml"

# begin NAME [ARGUMENT...]: a service with a data folder of that name, awaited.
begin() {
	local name=$1
	shift
	: > "$dir/out"
	"$dir/caredesk" run --listen 127.0.0.1:$port --data "$dir/$name" "$@" > "$dir/out" 2>> "$dir/err" &
	pid=$!
	for _ in $(seq 600); do
		! grep -q '^ready' "$dir/out" || return 0
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.1
	done
	cat "$dir/err"
	exit 1
}

end() {
	kill "$pid"
	wait "$pid"
	pid=
}

# A token is good for an hour, and a run may be longer.
required=()
ask() {
	local fields=()
	[ ${#required[@]} -eq 0 ] ||
	    fields=(--header "Authorization: Bearer $("$dir/caredesk" token "${required[@]}")")
	curl --silent --no-progress-meter --parallel --parallel-max 16 --output /dev/null "${fields[@]}" "$@"
}

# What is COUNT of the 12,000 in one half of the requests that are wanted, but at least one.
share() {
	echo $(($1 * requests / 24000 > 0 ? $1 * requests / 24000 : 1))
}

mixed() {
	ask "$base/api/coalescence/default?member_id=[1-$(share 3300)]"
	ask "$base/api/coalescence/avg?explain=true&member_id=3&n=[1-$(share 2000)]"
	ask "$base/api/coalescence/nope?n=[1-$(share 1000)]"
	ask --data '{"a": [1, 2, 3]}' "$base/api/coalescence/default?n=[1-$(share 1000)]"
	ask --head "$base/api/coalescence/min?member_id=2&n=[1-$(share 500)]"
	ask --request OPTIONS "$base/api/coalescence/min?n=[1-$(share 500)]"
	ask "$base/api/coalescence/%ff?n=[1-$(share 250)]"
	ask "$base/api/coalescence/default?require=all&member_id=3&n=[1-$(share 250)]"
	ask "$base/healthz?n=[1-$(share 250)]"
	ask "$base/metrics?n=[1-$(share 50)]"
	ask --header 'Accept: text/html' "$base/api/coalescence/max?member_id=1&n=[1-$(share 250)]"

	json='Content-Type: application/json'
	event='{"type_id": 1, "caregiver_id": 17, "start_time": "2026-11-20T10:00:00Z"}'
	ask --header "$json" --data '{"name": "x", "amount_in_cents": 100}' "$base/events/types?n=[1-3]"
	ask --header "$json" --data "$event" "$base/events?n=[1-$(share 800)]"
	ask --header "$json" --header 'Idempotency-Key: once' --data "$event" "$base/events?n=[1-$(share 100)]"
	ask --header "$json" --data '{"type_id": 9, "caregiver_id": -1}' "$base/events?n=[1-$(share 100)]"
	for _ in $(seq 500); do echo "$event"; done |
	    ask --header 'Content-Type: application/x-ndjson' --data-binary @- "$base/events?n=[1-$(share 5)]"
	ask --request POST "$base/events/[1-$(share 200)]/reimburse"
	ask --request DELETE "$base/events/[$(share 150)-$(share 300)]"
	ask --request PUT --header "$json" --data '{"name": "y", "amount_in_cents": 7}' "$base/events/types/1?n=[1-$(share 50)]"
	ask "$base/events?caregiver_id=17&limit=100&n=[1-$(share 50)]"
	ask "$base/events?type_id=1&reimbursed=false&min_time=2020-01-01&n=[1-$(share 50)]"
	ask "$base/events?min_time=2020-01-01T00:00:00Z&n=[1-$(share 50)]"
	ask "$base/events/[1-$(share 200)]"
	ask "$base/events/types/1/prices?n=[1-$(share 20)]"
	for format in json rows csv; do
		ask "$base/events/report?format=$format&caregiver_ids=17,18&n=[1-$(share 50)]"
		ask "$base/events/report?format=$format&min_time=2026-11-15T00:00:00Z&n=[1-$(share 50)]"
	done
	ask --header "$json" --data '{"caregiver_ids": [1, 2, 17, 17]}' "$base/events/report?n=[1-$(share 50)]"
	ask --header "$json" --data '{"name": "a", "email": "a@b.example", "address": "c"}' "$base/accounts?n=[1-$(share 100)]"
	ask --header "$json" --data '{"name": "a", "email": "a@"}' "$base/accounts?n=[1-$(share 50)]"
	ask --form "image=@t/fuzz/corpus/image/jpeg_0;type=image/jpeg;filename=a.jpg" "$base/accounts/1/upload_image?n=[1-$(share 50)]"
	ask --form "image=@t/valgrind.sh;type=image/jpeg;filename=a.jpg" "$base/accounts/1/upload_image?n=[1-$(share 50)]"
	ask --request PUT --header "$json" --data '{"name": "b", "email": "a@b.example", "address": "d"}' "$base/accounts/1?n=[1-$(share 50)]"
	ask "$base/accounts?email=a%40b.example&n=[1-$(share 100)]"
	ask "$base/accounts/[1-$(share 100)]"
	session='{"session_id": 1, "ticks": [-10,-11,-12,-13,-14,-15,-16,-17,-18,-19,-20,-21,-22,-23,-24], "selected_tick": 1, "step_count": 2}'
	ask --header "$json" --data "$session" "$base/audios?n=[1-$(share 50)]"
	ask --request PUT --header "$json" --data "$session" "$base/audios/1?n=[1-$(share 50)]"
	ask "$base/audios/[1-$(share 50)]"
	ask "$base/audios?step_count=2&n=[1-$(share 50)]"
	ask "$base/api/one/[1-$(share 500)]"
	ask "$base/stats/?limit=10&n=[1-$(share 20)]"
	ask "$base/stats/?format=csv&prefix=/api/&n=[1-$(share 20)]"
	ask "$base/stats/hourly?path=/api/one/1&n=[1-$(share 20)]"
}

say "$requests requests"
begin off
mixed
end
begin required --config "$dir/required.yaml"
required=(--data "$dir/required" --config "$dir/required.yaml" --sub valgrind --role admin --role accountant)
mixed
end
counted=$(grep -c '"event":"request"' "$dir/err")
say "$counted requests reached the programs"
[ "$counted" -ge $((requests * 11 / 12)) ] || { say "fewer than $((requests * 11 / 12))"; exit 1; }
refused=$(grep '"event":"request"' "$dir/err" | grep -c '"status":401' || true)
[ "$refused" -eq 0 ] || { say "$refused of them were not let in"; exit 1; }
# What a program confines itself by, and Debian's valgrind does not know: Landlock's first call, and seccomp.
find "$dir/logs" -type f -exec sed -i '/WARNING: unhandled .* syscall: \(444\|317\)$/,+4d' {} +
if find "$dir/logs" -type f -size +0 | grep -q .; then
	cat "$dir"/logs/*
	exit 1
fi
say "valgrind found nothing"
