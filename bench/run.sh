#!/bin/bash
# The benchmarks: what the programs take, beside the least that could do the same.
#
#	bench/run.sh [all|shelf|coalesce|slow|cache|memory]... [--rounds N] [--seconds S] [--requests N]
#	bench/run.sh [post|import|report|pages|ledger-memory]... [--events N] [--caregivers N] [--lines N]
#
# Prints a table for each.  Candidates take turns within one run, for a machine is never twice the
# same: only ratios of one run mean anything.  All is on the loopback, in a temporary folder, on ports
# that are free, from --ports-from N on.  With 10,000,000 events, those of the second line need 10 GB
# there, and two minutes to fill a database.  Uses the build named by CAREDESK_BUILD, else makes one in
# build-bench.

# shellcheck source=bench/common.sh
source "$(dirname "$0")/common.sh"

requests=1000000	# of the memory benchmark
events=10000000	# of a large database
caregivers=10000
lines=1000000	# of an import
every_suite=(shelf coalesce slow cache memory post import report pages ledger-memory)
numbers+=(requests events caregivers lines)

# --- what is measured

write_scripts() {
	{
		cat "$tmp/report.lua"
		write_post
	} >"$tmp/post.lua"
	{
		cat "$tmp/report.lua"
		write_anew
	} >"$tmp/anew.lua"
}

# Events of the last day.
write_post() {
	write_sender /events
	cat <<END
local day = "$(date -u -d yesterday +%F)"
local caregivers = $caregivers
END
	cat <<'END'
local body = '{"type_id":%d,"caregiver_id":%d,"start_time":"%sT%02d:%02d:%02dZ"}'

function request()
	return send(body:format(random(1, 8), random(1, caregivers), day, random(0, 23),
	    random(0, 59), random(0, 59)))
end
END
}

# What nobody has asked for before: @ is replaced by another second and microsecond each time.
write_anew() {
	cat <<'END'
local n = os.time() * 1000000

function request()
	n = n + 1
	return wrk.format("GET", (wrk.path:gsub("@", string.format("%02d.%06d",
	    math.floor(n / 1000000) % 60, n % 1000000))))
end
END
}

# Three insurers that answer at once; in $static_urls.
start_insurers() {
	take_port
	static_urls=("http://127.0.0.1:$port/alpha" "http://127.0.0.1:$port/beta"
	    "http://127.0.0.1:$port/gamma")
	mkdir -p "$tmp/insurers"
	cat >"$tmp/insurers/nginx.conf" <<END
$user_line
daemon off;
worker_processes auto;
pid nginx.pid;
error_log stderr warn;
events {
	worker_connections 4096;
}
http {
	access_log off;
	keepalive_requests 100000000;
	keepalive_timeout 600s;
	default_type application/json;
	client_body_temp_path body;
	fastcgi_temp_path fastcgi;
	proxy_temp_path proxy;
	scgi_temp_path scgi;
	uwsgi_temp_path uwsgi;
	server {
		listen 127.0.0.1:$port backlog=1024;
		location /alpha { return 200 '{"oop_max":10000,"remaining_oop_max":9000,"copay":10000}'; }
		location /beta { return 200 '{"oop_max":20000,"remaining_oop_max":9000,"copay":50000}'; }
		location /gamma { return 200 '{"oop_max":10000,"remaining_oop_max":8000,"copay":10000}'; }
	}
}
END
	start insurers nginx -e stderr -p "$tmp/insurers/" -c nginx.conf
	await answers "${static_urls[0]}"
}

# Insurers that take so many milliseconds each; in $slow_urls.
start_slow() {
	local ms

	slow_urls=()
	for ms in "$@"; do
		take_port
		start slow "$build/bench/slow" "$port" "$ms"
		slow_urls+=("http://127.0.0.1:$port/")
		await eval '! is_free $port'
	done
}

# MAX_AGE_S URL...: caredesk run, on $caredesk.  More calls in flight than there are clients, for what a
# client that has left is owed still counts.
start_caredesk() {
	local max_age_s=$1 i=0 url

	shift
	take_port
	caredesk=http://127.0.0.1:$port
	{
		printf 'user: %s\ncoalesce:\n  max_age_s: %d\n  upstreams:\n' "$user" "$max_age_s"
		for url in "$@"; do
			printf '  - { name: insurer-%d, max_in_flight: 480, url: "%s" }\n' $((++i)) "$url"
		done
	} >"$tmp/caredesk.yaml"
	start caredesk "$build/caredesk" run --listen "127.0.0.1:$port" --data "$tmp/data" \
	    --config "$tmp/caredesk.yaml"
	await grep -q '^ready' "$tmp/caredesk.out"
}

question='/api/coalescence/default?member_id=1'

bench_shelf() {
	start_rig
	printf 'user: %s\n' "$user" >"$tmp/constant.yaml"
	start_fastcgi floor "$build/bench/floor"
	start_fastcgi constant "$build/bench/constant" --data "$tmp" --config "$tmp/constant.yaml"
	measure_by_turns $clients floor "$rig/floor/a?b=c" shelf "$rig/shelf/a?b=c"
	head_of_table "shelf: a constant answer, $clients clients"
	row floor "floor: libfcgi alone"
	row shelf "the shelf" floor
}

bench_coalesce() {
	start_insurers
	start_caredesk 0 "${static_urls[@]}"
	start_rig
	# Of 4, 8, 16 and 32 threads, 8 are the fastest here.
	start_fastcgi peer "$build/bench/peer" 8 "${static_urls[@]/%/?member_id=1}"
	start_fastcgi bare "$build/bench/peer" --bare 8 "${static_urls[@]}"
	measure_by_turns $clients bare "$rig/bare/?member_id=1" peer "$rig/peer/?member_id=1" rig "$rig$question" \
	    caredesk "$caredesk$question"
	measure_by_turns 8 bare-8 "$rig/bare/?member_id=1" peer-8 "$rig/peer/?member_id=1" rig-8 "$rig$question" \
	    caredesk-8 "$caredesk$question"
	head_of_table "coalesce: three insurers that answer at once, not cached, $clients clients"
	row bare "peer, and less: no query, no fields of its own" peer
	row peer "peer: the same calls, nothing else"
	row rig "coalesce behind the peer's nginx" peer
	row caredesk "coalesce by caredesk run" peer
	head_of_table "coalesce: the same, 8 clients"
	row bare-8 "peer, and less: no query, no fields of its own" peer-8
	row peer-8 "peer: the same calls, nothing else"
	row rig-8 "coalesce behind the peer's nginx" peer-8
	row caredesk-8 "coalesce by caredesk run" peer-8
}

bench_slow() {
	start_slow 50 50 50 -1
	start_caredesk 0 "${slow_urls[@]:0:3}"
	measure_by_turns 1 slow-1 "$caredesk$question"
	measure_by_turns 256 slow-256 "$caredesk$question"
	stop_caredesk
	start_caredesk 0 "${slow_urls[@]:1:3}"
	warm_up=4s	# until the deadline has come often enough to open the circuit
	measure_by_turns 256 hanging "$caredesk$question"
	warm_up=1s
	head_of_table "slow: three insurers that take 50 ms each"
	row slow-1 "1 client"
	row slow-256 "256 clients"
	row hanging "256 clients, one of the three never answers"
}

bench_cache() {
	local n

	start_insurers
	start_caredesk 3600 "${static_urls[@]}"
	start_rig
	n=$(curl -s "$caredesk$question" | wc -c)
	mkdir -p "$tmp/rig/html/static"
	head -c "$n" /dev/zero | tr '\0' 'x' >"$tmp/rig/html/static/file"
	cp "$tmp/rig/html/static/file" "$tmp/data/html/problems/file.html"
	measure_by_turns $clients static "$rig/static/file" same "$caredesk/problems/file" \
	    hit "$caredesk$question"
	head_of_table "cache: an answer that nginx has, $n bytes, $clients clients"
	row static "a static file, by an nginx with nothing else to do"
	row same "a static file, by caredesk's nginx"
	row hit "a cached answer, by caredesk's nginx" static
	echo
	printf 'Of the static file by the same nginx: %.2f\n' "$(ratio hit same)"
}

# Until so many requests are answered.
send() {
	local left=$1 n

	while [ "$left" -gt 0 ]; do
		measure memory $clients "$caredesk$question"
		n=$(tail -n 1 "$tmp/results/memory" | awk '{ print $4 }')
		left=$((left - n))
	done
}

# PID WORDS: a row of what it has.
memory_row() {
	echo "| $2 | $(rss_kib "$1") | $(awk "/^Threads/ { print \$2 }" "/proc/$1/status") |"
}

bench_memory() {
	local pid warm

	start_insurers
	start_caredesk 0 "${static_urls[@]}"
	pid=$(program_pid coalesce)
	echo
	echo "### memory: coalesce, $clients clients"
	echo
	echo "| when | RSS in KiB | threads |"
	echo "| --- | --- | --- |"
	memory_row "$pid" "idle, just started"
	send $((requests / 5))
	memory_row "$pid" "warm, after $((requests / 5)) requests"
	warm=$(rss_kib "$pid")
	send "$requests"
	memory_row "$pid" "after $requests more"
	echo "| growth | $(($(rss_kib "$pid") - warm)) | |"
}

# --- events and report

# EVENTS CAREGIVERS: a database of the service's own, filled once; in $filled.
fill() {
	filled=$tmp/filled-$1-$2.db
	[ ! -e "$filled" ] || return 0
	start_house "$tmp/data"
	stop_caredesk keep
	cp "$tmp/data/db/events.db" "$filled"
	[ ! -e "$tmp/data/db/events.db-wal" ] || cp "$tmp/data/db/events.db-wal" "$filled-wal"
	rm -rf "$tmp/data"
	ledger fill "$filled" "$1" "$2" >"$tmp/fill.out"
}

# DATA [BUILD]: the service over a copy of what fill() has made.
start_filled() {
	local data=$1 from=${2:-$build}

	start_house "$data" "$from"
	stop_caredesk keep
	rm -f "$data"/db/events.db*
	cp "$filled" "$data/db/events.db"
	chown --reference="$data/db" "$data/db/events.db"
	chmod 600 "$data/db/events.db"
	sync	# or the commits wait for the copy
	start_house "$data" "$from"
}

# NAME OPTION...: the bare loop over $tmp/bare.db, as measure() does.
measure_bare() {
	local name=$1

	shift
	ledger insert "$tmp/bare.db" "$seconds" "$caregivers" "$@" >"$tmp/bare.out"
	awk '{ print $1, $4 * 1000, $7 * 1000, 0, 0, $9 * 1000 }' "$tmp/bare.out" >>"$tmp/results/$name"
}

slowest_ms() {
	awk '$6 > most { most = $6 } END { printf "%.0f", most / 1000 }' "$tmp/results/$1"
}

# A build whose events has a transaction for each change.
make_each() {
	mkdir -p "$tmp/each"
	cp "$build"/{accounts,audios,caredesk,coalesce,health,report,stats} "$tmp/each"
	cp "$build/bench/each" "$tmp/each/events"
	chmod 755 "$tmp/each"
}

post_row() {
	row "$@" | sed "s/|[^|]*|$/| $(slowest_ms "$1") &/"
}

# EVENTS: what there is before.
bench_post_at() {
	local n=$1 round house each=

	fill "$n" "$caregivers"
	cp "$filled" "$tmp/bare.db"
	start_filled "$tmp/data"
	house=$caredesk
	start_filled "$tmp/data-each" "$tmp/each"
	each=$caredesk
	for ((round = 0; round < rounds; round++)); do
		measure_bare "bare-$n"
		measure "post-$n" $clients "$house/events" post
		measure_bare "bare-each-$n" --each
		measure "each-$n" $clients "$each/events" post
	done
	echo
	echo "### post: at $n events of $caregivers caregivers, $clients clients"
	echo
	echo "| candidate | requests/s | p50 ms | p99 ms | ratio | slowest ms | errors |"
	echo "| --- | --- | --- | --- | --- | --- | --- |"
	post_row "bare-$n" "the bare loop"
	post_row "post-$n" "POST /events" "bare-$n"
	post_row "bare-each-$n" "the bare loop, a transaction an event" "bare-$n"
	post_row "each-$n" "POST /events, a transaction an event" "bare-$n"
	echo
	printf 'POST /events by one with a transaction an event: %.2f\n' "$(ratio "post-$n" "each-$n")"
	printf 'events, at most: %d KiB\n' "$(peak_kib "$(program_pid events)")"
	stop_all
	rm -rf "$tmp"/data* "$tmp"/bare.db*
}

bench_post() {
	make_each
	bench_post_at 0
	bench_post_at "$events"
}

send_lines() {
	curl -sSf -H 'Content-Type: application/x-ndjson' --data-binary @"$tmp/lines.ndjson" "$1/events"
}

# NAME OPTION...: the bare import into a copy of $filled.
bare_import() {
	local name=$1

	shift
	rm -f "$tmp"/bare.db*
	cp "$filled" "$tmp/bare.db"
	sync
	ledger import "$tmp/bare.db" "$lines" "$caregivers" "$@" |
	    awk '{ print $4 }' >>"$tmp/results/$name"
	rm -f "$tmp"/bare.db*
}

bench_import_at() {
	local n=$1 round

	fill "$n" "$caregivers"
	for ((round = 0; round < rounds; round++)); do
		bare_import "import-bare-$n"
		bare_import "import-audit-$n" --audit
		start_filled "$tmp/data"
		take_time "import-post-$n" send_lines "$caredesk"
		stop_caredesk
		start_filled "$tmp/data"
		take_time "import-command-$n" "$build/caredesk" import "$tmp/lines.ndjson" \
		    --data "$tmp/data" --config "$tmp/data.yaml"
		stop_caredesk
	done
	times_head "import: $lines events into $n of $caregivers caregivers"
	time_row "import-audit-$n" "the bare loop: events, sums, audit"
	time_row "import-bare-$n" "the bare loop, without the audit" "import-audit-$n"
	time_row "import-post-$n" "POST /events of NDJSON" "import-audit-$n"
	time_row "import-command-$n" "caredesk import" "import-audit-$n"
}

bench_import() {
	ledger lines "$lines" "$caregivers" >"$tmp/lines.ndjson"
	bench_import_at 0
	bench_import_at "$events"
}

# An end long after all events, and another each time (see write_anew), so that no answer is at hand.
anew='max_time=2199-01-01T00:00:@Z'
questions=0

# NAME QUERY: one report.
take_report() {
	local name=$1 query=$2

	query=${query/@/$(printf '%02d.%06d' $((questions / 1000000 % 60)) $((questions % 1000000)))}
	questions=$((questions + 1))
	curl -sSf -o "$tmp/answer" -w '%{time_total}\n' "$caredesk/events/report?$query" \
	    >>"$tmp/results/$name"
}

grouped='SELECT month, caregiver_id, sum(iif(reimbursed_at IS NULL, amount_in_cents, 0)),
sum(iif(reimbursed_at IS NULL, 0, amount_in_cents)), sum(reimbursed_at IS NULL), sum(reimbursed_at IS NOT NULL)
FROM events GROUP BY month, caregiver_id ORDER BY month, caregiver_id'

# NAME: reading the sums, and nothing else.
take_bare_report() {
	ledger report "$tmp/data/db/events.db" | awk '{ print $4 }' >>"$tmp/results/$1"
}

# Both its months are cut.
cut_period() {
	echo "min_time=$(date -u -d "$(date -u +%Y-%m-15) 58 months ago" +%Y-%m)-10T00:00:@Z" \
	    "max_time=$(date -u -d "$(date -u +%Y-%m-15) 1 month ago" +%Y-%m)-20T00:00:00Z" | tr ' ' '&'
}

# CAREGIVERS: reports of all of them.
bench_report_all() {
	local n=$1 round

	fill "$events" "$n"
	start_filled "$tmp/data"
	for ((round = 0; round < rounds; round++)); do
		take_bare_report "bare-$n"
		take_report "all-$n" "$anew"
		take_report "again-$n" ''
		take_report "cut-$n" "$(cut_period)"
		take_report "csv-$n" "format=csv&$anew"
	done
	take_report "size-$n" ''
	for round in 1 2 3; do
		take_time "grouped-$n" sqlite3 -readonly "$tmp/data/db/events.db" "$grouped"
	done
	times_head "report: all $n caregivers, $(wc -l <"$tmp/timed.out") rows, $(stat -c %s "$tmp/answer") bytes"
	time_row "bare-$n" "SELECT of the sums, and nothing else"
	time_row "all-$n" "JSON, asked for the first time" "bare-$n"
	time_row "again-$n" "JSON, asked for again" "bare-$n"
	time_row "csv-$n" "CSV, asked for the first time" "bare-$n"
	time_row "cut-$n" "JSON, of a period that cuts two months" "all-$n"
	time_row "grouped-$n" "GROUP BY over the events, by the shell of SQLite" "all-$n"
	printf '\nreport, at most: %d KiB\n' "$(peak_kib "$(program_pid report)")"
}

bench_report_one() {
	local n=$1 one='caregiver_ids=17' bytes

	fill "$events" "$n"
	start_filled "$tmp/data"
	start_rig_before report
	bytes=$(curl -s "$rig/events/report?$one" | wc -c)
	start_fastcgi floor "$build/bench/floor" "$bytes"
	for ((round = 0; round < rounds; round++)); do
		measure "floor-one-$n" $clients "$rig/floor/"
		measure "one-$n" $clients "$rig/events/report?$one&$anew" anew
		measure "one-again-$n" $clients "$rig/events/report?$one"
		measure "one-cut-$n" $clients "$rig/events/report?$one&$(cut_period)" anew
	done
	head_of_table "report: one of $n caregivers, $bytes bytes, $clients clients"
	row "floor-one-$n" "floor: libfcgi and a constant of that size"
	row "one-$n" "five years, asked for the first time" "floor-one-$n"
	row "one-again-$n" "five years, asked for again" "floor-one-$n"
	row "one-cut-$n" "a period that cuts two months" "one-$n"
}

bench_report() {
	bench_report_all 1000
	stop_all
	rm -rf "$tmp/data"
	bench_report_one 1000
	stop_all
	rm -rf "$tmp/data"
	bench_report_all 10000
}

# WORDS FILTER WHERE: page 1, and page 10,000 or the last full one, of 100 events.
pages_of() {
	local name=pages$((++questions)) words=$1 filter=$2 where=$3 count page after round

	count=$(sqlite3 -readonly "$filled" "SELECT count(*) FROM events WHERE $where")
	page=$((count / 100 < 10000 ? count / 100 : 10000))
	[ "$page" -gt 1 ] || return 0
	after=$(sqlite3 -readonly "$filled" \
	    "SELECT id FROM events WHERE $where ORDER BY id LIMIT 1 OFFSET $((page * 100 - 101))")
	after=$(printf 'k%d' "$after" | base64 | tr -d '=\n' | tr '+/' '-_')
	curl -sf "$caredesk/events?$filter&cursor=$after" | grep -o '"id"' | wc -l | grep -qx 100 ||
	    die "page $page of $words is not full"
	for ((round = 0; round < rounds; round++)); do
		measure "$name-first" 8 "$caredesk/events?$filter"
		measure "$name-last" 8 "$caredesk/events?$filter&cursor=$after"
	done
	row "$name-first" "$words: page 1"
	row "$name-last" "$words: page $page" "$name-first"
}

bench_pages() {
	local then_us since

	fill "$events" "$caregivers"
	start_filled "$tmp/data"
	since=$(date -u -d '30 months ago' +%FT%TZ)
	then_us=$(date -u -d "$since" +%s)000000
	head_of_table "pages: of 100 out of $events events, 8 clients"
	pages_of "all" 'limit=100' 1
	pages_of "a caregiver" 'caregiver_id=17' 'caregiver_id = 17'
	pages_of "a type" 'type_id=3' 'type_id = 3'
	pages_of "reimbursed" 'reimbursed=true' '(reimbursed_at IS NOT NULL) = 1'
	pages_of "not reimbursed" 'reimbursed=false' '(reimbursed_at IS NOT NULL) = 0'
	pages_of "since $since" "min_time=$since" "start_time > $then_us"
	pages_of "a type, not reimbursed" 'type_id=3&reimbursed=false' \
	    'type_id = 3 AND (reimbursed_at IS NOT NULL) = 0'
}

# WORDS PID: what it has, and had at most.
ledger_memory_row() {
	echo "| $1 | $(rss_kib "$2") | $(peak_kib "$2") |"
}

bench_ledger_memory() {
	local n pid round

	echo
	echo "### ledger-memory: $clients clients, $events events"
	echo
	echo "| when | RSS in KiB | at most |"
	echo "| --- | --- | --- |"
	for n in 1000 10000; do
		fill "$events" "$n"
		start_filled "$tmp/data"
		pid=$(program_pid report)
		ledger_memory_row "report, just started" "$pid"
		answers "$caredesk/events/report?caregiver_ids=17"
		ledger_memory_row "after a report of one caregiver" "$pid"
		answers "$caredesk/events/report"
		ledger_memory_row "after one of all $n" "$pid"
		answers "$caredesk/events/report?$(cut_period | sed s/@/00/)"
		ledger_memory_row "after one of all $n, whose period cuts two months" "$pid"
		measure memory $clients "$caredesk/events/report?caregiver_ids=17&$anew" anew
		ledger_memory_row "after $seconds s of reports of one, each another, $clients at once" "$pid"
		measure memory 8 "$caredesk/events/report?$anew" anew
		ledger_memory_row "after $seconds s of reports of all $n, each another, 8 at once" "$pid"
		stop_caredesk
	done
	start_filled "$tmp/data"
	pid=$(program_pid events)
	ledger_memory_row "events, just started" "$pid"
	for ((round = 0; round < rounds; round++)); do
		measure memory $clients "$caredesk/events" post
	done
	ledger_memory_row "after $((rounds * seconds)) s of POST /events" "$pid"
	measure memory $clients "$caredesk/events?limit=1000&type_id=3"
	ledger_memory_row "after $seconds s of lists of 1,000, $clients at once" "$pid"
}

read_options "$@"
begin
write_scripts
run_suites
