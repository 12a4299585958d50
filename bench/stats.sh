#!/bin/bash
# The benchmarks of the request statistics: what counting costs, beside the least that could count.
#
#	bench/stats.sh [all|counting]... [--rounds N] [--seconds S] [--api-paths N]
#	bench/stats.sh [ingest]... [--rounds N] [--lines N] [--zipf-paths N]
#	bench/stats.sh [list]... [--rounds N] [--paths N]
#	bench/stats.sh [memory]... [--stored N]
#
# Prints a table for each.  Candidates take turns within one run, for a machine is never twice the
# same: only ratios of one run mean anything.  All is on the loopback, in a temporary folder, on ports
# that are free, from --ports-from N on.  With 10,000,000 stored paths, memory needs 6 GB there.
# Installs from Debian what stats is held against (Flask, gunicorn, Redis, Node), and starts it itself.
# Uses the build named by CAREDESK_BUILD, else makes one in build-bench.

# shellcheck source=bench/common.sh
source "$(dirname "$0")/common.sh"
# shellcheck source=build-aux/setup.sh
source "$source/build-aux/setup.sh"

api_paths=10000		# that are asked for while requests are counted
lines=1000000		# of a log that is taken in
zipf_paths=100000	# in such a log
paths=1000000		# in the list
stored=10000000		# of the memory benchmark
every_suite=(counting ingest list memory)
numbers+=(api-paths lines zipf-paths paths stored)
# An insurer that nobody asks: without any, caredesk would start three to try it with.
no_demo='coalesce: { upstreams: [ { name: none, url: "http://127.0.0.1:9/" } ] }'
house_settings=$no_demo$'\n'

install_competitors() {
	install_packages python3 python3-flask gunicorn python3-redis redis-server redis-tools nodejs
	echo "Python $(python_version); Flask $(package_version python3-flask); gunicorn" \
	    "$(package_version gunicorn); Redis $(package_version redis-server);" \
	    "Node $(node --version); SQLite $(sqlite3 --version | awk '{ print $1 }')"
}

python_version() {
	/usr/bin/python3 -c 'import platform; print(platform.python_version())'
}

package_version() {
	dpkg-query -W -f '${Version}' "$1"
}

# --- what requests are asked for

# Zipf's law over so many paths of one to six segments.  All is drawn before the first request: then
# one costs wrk a look into two tables.
write_api() {
	{
		cat "$tmp/report.lua"
		echo "local paths = $api_paths"
		cat <<'END'
local draws = 1048576
local requests, ranks, at = {}, {}, 0

local function path_of(rank)
	local path = "/api"
	for i = 1, rank % 6 do
		path = path .. "/segment" .. (rank * i) % 97
	end
	return path .. "/p" .. rank
end

local function draw(shares)
	local wanted, low, high = math.random() * shares[paths], 1, paths
	while low < high do
		local middle = math.floor((low + high) / 2)
		if shares[middle] <= wanted then
			low = middle + 1
		else
			high = middle
		end
	end
	return low
end

function init(args)
	local shares, sum = {}, 0
	math.randomseed(os.time())
	for rank = 1, paths do
		sum = sum + 1 / rank
		shares[rank] = sum
		requests[rank] = wrk.format("GET", path_of(rank))
	end
	for i = 1, draws do
		ranks[i] = draw(shares)
	end
end

function request()
	at = at % draws + 1
	return requests[ranks[at]]
end
END
	} >"$tmp/api.lua"
}

# --- the candidates

# Nobody reads its log: the nginx of caredesk, its configuration unchanged, and nothing else; on $floor.
start_floor() {
	local folder

	take_port
	floor=http://127.0.0.1:$port
	mkdir -p "$tmp/floor"
	for folder in run log tmp cache html; do
		mkdir -p "$tmp/floor/$folder"
	done
	chmod -R 711 "$tmp/floor"
	printf 'user: %s\n%s' "$user" "$house_settings" >"$tmp/floor.yaml"
	"$build/caredesk" render-nginx --listen "127.0.0.1:$port" --data "$tmp/floor" \
	    --config "$tmp/floor.yaml" >"$tmp/floor/nginx.conf"
	(cd "$tmp/floor" && exec nginx -e stderr -p ./ -c nginx.conf) >/dev/null 2>>"$tmp/floor.log" &
	pids+=($!)
	await answers "$floor/api/x"
}

# In $redis_port; keeps nothing on disk.
start_redis() {
	take_port
	redis_port=$port
	start redis redis-server --bind 127.0.0.1 --port "$port" --save '' --appendonly no --dir "$tmp"
	await redis_answers
}

redis_answers() {
	redis-cli -p "$redis_port" ping | grep -q PONG
}

# NAME OPTION...: on $flask.
start_flask() {
	local name=$1

	shift
	take_port
	flask=http://127.0.0.1:$port
	start "$name" env REDIS_PORT="$redis_port" PYTHONDONTWRITEBYTECODE=1 gunicorn --workers 2 "$@" \
	    --timeout 600 --bind "127.0.0.1:$port" --chdir "$source/bench" flask_counter:app
	await answers "$flask/api/x"
}

# On $node.
start_node() {
	take_port
	node=http://127.0.0.1:$port
	start node node "$source/bench/node_counter.js" "$port"
	await answers "$node/api/x"
}

# --- counting

# A round of caredesk, while its lag is looked at; it ends when all is taken in.
measure_house() {
	start follow /usr/bin/python3 "$source/bench/follow.py" lag "$tmp/data"
	measure house $clients "$caredesk" api
	stop_last
	cat "$tmp/follow.out" >>"$tmp/results/lag"
	answers "$caredesk/stats/?limit=1"
}

# NAME: how much of a core wrk itself took, at most.
busiest_wrk() {
	awk '$7 > most { most = $7 } END { print most }' "$tmp/results/$1"
}

counting_row() {
	row "$@" | sed "s/|[^|]*|$/| $(busiest_wrk "$1") &/"
}

# All counts of the simulated API, and all lines of the log that are of it.
check_counts() {
	local counted logged

	counted=$(curl -sSf "$caredesk/stats/?prefix=/api/&format=csv" |
	    awk -F , 'NR > 1 { n += $(NF - 1) } END { printf "%d\n", n }')
	logged=$(cat "$tmp"/data/log/access.log* | grep -c '"path":"/api/')
	[ "$counted" -eq "$logged" ] || die "$counted of $logged requests were counted"
	echo "Counted: $counted requests, which are the lines of the log."
}

print_lag() {
	awk -v median="$(column lag 1)" '$1 > ms { ms = $1 } $2 > n { n = $2 } END {
		printf "Lag of the counts behind the log: %.0f ms, at most %.0f ms or %d KiB; %d samples.\n",
		    median, ms, n / 1024, NR
	}' "$tmp/results/lag"
}

print_counting() {
	local usual=sync

	[ "$(printf '%.0f' "$(column threads 1)")" -lt "$(printf '%.0f' "$(column sync 1)")" ] ||
	    usual=threads
	echo
	echo "### counting: GET /api/…, Zipf over $api_paths paths, $clients clients"
	echo
	echo "| candidate | requests/s | p50 ms | p99 ms | ratio | wrk, % of a core | errors |"
	echo "| --- | --- | --- | --- | --- | --- | --- |"
	counting_row floor "floor: the same nginx, nobody reads its log"
	counting_row house "caredesk run" floor
	counting_row node "Node and a Map, one process" floor
	counting_row sync "Flask and Redis, gunicorn's 2 sync workers" floor
	counting_row threads "Flask and Redis, gunicorn's 2 workers of 16 threads" floor
	echo
	printf 'caredesk by Node: %.2f; by the better Flask: %.1f\n' "$(ratio house node)" \
	    "$(ratio house $usual)"
	print_lag
}

bench_counting() {
	local round sync threads name

	write_api
	kept_logs=data
	start_house "$tmp/data"
	start_floor
	start_node
	start_redis
	start_flask sync --worker-class sync
	sync=$flask
	start_flask threads --worker-class gthread --threads 16
	threads=$flask
	for name in caredesk floor node sync threads; do
		wrk -t1 -c$clients -d"$warm_up" --timeout 10s -s "$tmp/api.lua" "${!name}" >"$tmp/wrk.out"
	done
	for ((round = 0; round < rounds; round++)); do
		measure floor $clients "$floor" api
		measure_house
		measure node $clients "$node" api
		measure sync $clients "$sync" api
		measure threads $clients "$threads" api
	done
	print_counting
	check_counts
	kept_logs=
}

# --- stats alone

# DATA: a folder of the service, and its empty databases.
make_data() {
	start_house "$1"
	stop_last
	: >"$1/log/access.log"
}

# DATA: the program, and nothing else.
start_stats() {
	rm -f "$tmp/stats.sock"
	start_fastcgi stats "$build/stats" --data "$1" --config "$tmp/data.yaml"
}

# NAME DATA: how many seconds it takes to take in the log that is there, from the program's start; goes
# on running.
take_in() {
	local name=$1 data=$2 begin follower

	start follow /usr/bin/python3 "$source/bench/follow.py" wait "$data"
	follower=${pids[-1]}
	unset 'pids[-1]'
	begin=$(date +%s%N)
	start_stats "$data"
	wait "$follower" || die "$(cat "$tmp/follow.log")"
	echo "$begin $(cat "$tmp/follow.out")" | awk '{ printf "%.6f\n", ($2 - $1) / 1e9 }' \
	    >>"$tmp/results/$name"
}

# NAME LOG LINES: a round, from an empty database; all is counted, or this fails.
ingest_log() {
	local total

	make_data "$tmp/data"
	cat "$2" >"$tmp/data/log/access.log"
	sync	# or the commits wait for the copy
	take_in "$1" "$tmp/data"
	total=$(sqlite3 -readonly "$tmp/data/db/stats.db" 'SELECT sum(count) FROM paths')
	[ "$total" = "$3" ] || die "$total of $3 lines were counted"
	stop_last
	rm -rf "$tmp/data"
}

# NAME PATHS: a round of the floor.
ingest_floor() {
	make_data "$tmp/data"
	sync
	"$build/bench/hits" store "$tmp/data/db/stats.db" "$2" | awk '{ print $4 }' >>"$tmp/results/$1"
	rm -rf "$tmp/data"
}

# NAME WORDS [OTHER]: with the speed by OTHER's.
ingest_row() {
	local by='—'

	[ $# -lt 3 ] || by=$(paste "$tmp/results/$3" "$tmp/results/$1" | awk '{ print $1 / $2 }' | median |
	    xargs printf '%.2f')
	awk -v w="$2" -v s="$(column "$1" 1)" -v n="$lines" -v by="$by" \
	    'BEGIN { printf "| %s | %d | %.0f | %s |\n", w, n / s, s * 1000, by }'
}

bench_ingest() {
	local round

	"$build/bench/hits" log "$lines" "$zipf_paths" 0 1 >"$tmp/zipf"
	"$build/bench/hits" log "$lines" "$lines" "$lines" 1 >"$tmp/distinct"
	for ((round = 0; round < rounds; round++)); do
		ingest_log ingest-zipf "$tmp/zipf" "$lines"
		ingest_floor ingest-floor "$lines"
		ingest_log ingest-distinct "$tmp/distinct" "$lines"
	done
	echo
	echo "### ingest: a log of $lines lines, from the start of stats"
	echo
	echo "| candidate | lines/s | ms | ratio |"
	echo "| --- | --- | --- | --- |"
	ingest_row ingest-zipf "stats, Zipf over $zipf_paths paths"
	ingest_row ingest-floor "floor: upserts of as many paths, sorted, in one transaction"
	ingest_row ingest-distinct "stats, all paths distinct" ingest-floor
	rm "$tmp/zipf" "$tmp/distinct"
}

# --- the list

top_sql='SELECT path, count FROM paths ORDER BY count DESC, path LIMIT 100'
all_sql='SELECT path, count FROM paths ORDER BY count DESC, path'

# NAME MODE SQL: by the shell of SQLite, which says how long the statement took and writes a file.
take_sql() {
	sqlite3 -readonly "$tmp/data/db/stats.db" >"$tmp/timed.out" <<END
.mode $2
.output $tmp/answer
.timer on
$3;
END
	awk '/^Run Time: real/ { print $4 }' "$tmp/timed.out" "$tmp/answer" >>"$tmp/results/$1"
}

# NAME URL: of one answer that is read to its end.
take_answer() {
	curl -sSf -o "$tmp/answer" -w '%{time_total}\n' "$2" >>"$tmp/results/$1"
}

# A log with every path, and as many hits again by Zipf's law, over a day.
fill_paths() {
	make_data "$tmp/data"
	"$build/bench/hits" log $((2 * paths)) "$paths" "$paths" 24 >"$tmp/data/log/access.log"
	take_in fill "$tmp/data"
	stop_last
}

# The same paths and counts.
fill_redis() {
	start_redis
	sqlite3 -readonly "$tmp/data/db/stats.db" \
	    "SELECT 'ZADD paths ' || count || ' ' || CAST(path AS TEXT) || char(13) FROM paths" |
	    redis-cli -p "$redis_port" --pipe >"$tmp/pipe.out" || die "$(cat "$tmp/pipe.out")"
	[ "$(redis-cli -p "$redis_port" zcard paths)" -ge "$paths" ] || die "Redis has not all paths"
	start_flask flask --worker-class sync
}

# SETTLE-MS: all candidates by turns, by a service that settles for so long.
measure_list() {
	local settle=$1 round one

	house_settings=$no_demo$'\n'"stats: { settle_ms: $settle }"$'\n'
	start_house "$tmp/data"
	one=$(sqlite3 -readonly "$tmp/data/db/stats.db" "$top_sql" | head -n 1 | sed 's/|.*//')
	answers "$caredesk/stats/?limit=1"
	pid=$(program_pid stats)
	rss_kib "$pid" >"$tmp/results/rss-before-$settle"
	for ((round = 0; round < rounds; round++)); do
		take_sql "top-sql-$settle" json "$top_sql"
		take_answer "top-$settle" "$caredesk/stats/?limit=100"
		take_answer "hourly-$settle" "$caredesk/stats/hourly?path=$one"
		take_sql "all-list-$settle" list "$all_sql"
		take_sql "all-sql-$settle" json "$all_sql"
		take_answer "all-$settle" "$caredesk/stats/"
		take_time "redis-$settle" redis-cli -p "$redis_port" ZREVRANGE paths 0 -1 WITHSCORES
		take_answer "flask-$settle" "$flask/stats/"
	done
	rss_kib "$pid" >"$tmp/results/rss-after-$settle"
	peak_kib "$pid" >"$tmp/results/rss-peak-$settle"
	stop_last
	house_settings=$no_demo$'\n'
}

print_list() {
	local settle=$1

	times_head "list: $paths paths, settling for $settle ms"
	time_row "top-sql-$settle" "SELECT of the first 100, by the shell of SQLite as JSON"
	time_row "top-$settle" "GET /stats/?limit=100" "top-sql-$settle"
	time_row "all-sql-$settle" "SELECT of all, by the shell of SQLite as JSON"
	time_row "all-list-$settle" "SELECT of all, by the shell of SQLite as lines" "all-sql-$settle"
	time_row "all-$settle" "GET /stats/" "all-sql-$settle"
	time_row "redis-$settle" "ZREVRANGE of all, by redis-cli" "all-sql-$settle"
	time_row "flask-$settle" "ZREVRANGE of all, by Flask as JSON" "all-sql-$settle"
	time_row "hourly-$settle" "GET /stats/hourly of the path with the most hours"
	printf '\nstats: %d KiB before, %d after all, %d at most\n' "$(cat "$tmp/results/rss-before-$settle")" \
	    "$(cat "$tmp/results/rss-after-$settle")" "$(cat "$tmp/results/rss-peak-$settle")"
}

bench_list() {
	local settle

	fill_paths
	fill_redis
	for settle in 20 0; do
		measure_list "$settle"
		print_list "$settle"
	done
}

# --- memory

# PID WORDS [ANSWER]
stats_memory_row() {
	echo "| $2 | $(rss_kib "$1") | $(peak_kib "$1") | ${3:-} |"
}

# URL: what came of it; an answer that breaks off is said to.
try_answer() {
	curl -sS -o /dev/null -w '%{http_code}, %{size_download} bytes, %{time_total} s' "$1" 2>/dev/null ||
	    echo ', broken off'
}

# A line in the log, about 200 bytes; two in the database, with their indexes; and what is sorted.
need_room() {
	local kib=$((stored * 600 / 1024)) free

	free=$(df --output=avail "$tmp" | tail -n 1)
	[ "$free" -gt "$kib" ] || die "$tmp needs $((kib / 1024)) MiB and has $((free / 1024))"
}

bench_memory() {
	local pid answer

	need_room
	make_data "$tmp/data"
	"$build/bench/hits" log "$stored" "$stored" "$stored" 1 >"$tmp/data/log/access.log"
	echo
	echo "### memory: stats, $stored paths"
	echo
	echo "| when | RSS in KiB | at most | answer |"
	echo "| --- | --- | --- | --- |"
	take_in memory "$tmp/data"
	stats_memory_row "$(program_pid stats)" "all taken in, in $(column memory 1) s"
	stop_last
	start_house "$tmp/data"
	pid=$(program_pid stats)
	stats_memory_row "$pid" "started again"
	answer=$(try_answer "$caredesk/stats/?limit=100")
	stats_memory_row "$pid" "after GET /stats/?limit=100" "$answer"
	answer=$(try_answer "$caredesk/stats/hourly?prefix=/api/1")
	stats_memory_row "$pid" "after GET /stats/hourly of a sixteenth" "$answer"
	answer=$(try_answer "$caredesk/stats/")
	stats_memory_row "$pid" "after GET /stats/" "$answer"
}

read_options "$@"
begin dpkg-query
install_competitors
run_suites
