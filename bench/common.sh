# The machinery of the benchmarks.  Sourced by bash, by those beside it and by soak.sh and overload.sh of
# t/, which have a comment of how they are used, every_suite, a function bench_SUITE for each, numbers
# (their options), and then
#
#	read_options "$@"
#	begin [TOOL]...
#	run_suites
set -eu -o pipefail
shopt -s inherit_errexit

source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${CAREDESK_BUILD:-}
rounds=5
seconds=4
ports_from=$((12000 + RANDOM % 5000))
numbers=(rounds seconds ports-from)
warm_up=1s
clients=64
suites=()
pids=()
house_settings=	# lines of the configuration of a service
kept_logs=	# the data folder of one whose access log is followed
PATH=$PATH:/usr/sbin:/sbin

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

# The comment that the script begins with.
usage() {
	sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
}

# WORD WORDS...
is_one_of() {
	local word=$1 one

	shift
	for one; do
		[ "$one" != "$word" ] || return 0
	done
	return 1
}

# Suites, and options that each set the variable of their name.
read_options() {
	local name

	while [ $# -gt 0 ]; do
		name=${1#--}
		if [ "$1" = -h ] || [ "$1" = --help ]; then
			usage
			exit 0
		elif [ "$1" = all ]; then
			suites+=("${every_suite[@]}")
		elif is_one_of "$1" "${every_suite[@]}"; then
			suites+=("$1")
		elif [ "$1" != "$name" ] && is_one_of "$name" "${numbers[@]}" && [ $# -gt 1 ]; then
			printf -v "${name//-/_}" %d "$2"
			shift
		else
			usage >&2
			exit 2
		fi
		shift
	done
	[ ${#suites[@]} -gt 0 ] || suites=("${every_suite[@]}")
}

need_tools() {
	local tool

	for tool; do
		command -v "$tool" >/dev/null || die "needs $tool"
	done
}

make_build() {
	local log=$tmp/build.log

	if [ -z "$build" ]; then
		build=$source/build-bench
		mkdir -p "$build"
		[ -x "$source/configure" ] || "$source/bootstrap" >"$log" 2>&1
		[ -e "$build/config.status" ] ||
		    (cd "$build" && "$source/configure" >>"$log" 2>&1) || die "$(tail "$log")"
	fi
	# One after the other: all is a make of its own, and both build the shelf.
	make -C "$build" -j2 all >>"$log" 2>&1 && make -C "$build" -j2 bench-programs >>"$log" 2>&1 ||
	    die "$(tail "$log")"
}

# The tool that fills databases, with our statements.
ledger() {
	"$build/bench/ledger" --sql "$source/sql" "$@"
}

# PID: ends what this script started; by force after 5 s.
stop() {
	local i

	kill "$1" 2>/dev/null || true
	for i in {1..100}; do
		kill -0 "$1" 2>/dev/null || break
		sleep 0.05
	done
	kill -9 "$1" 2>/dev/null || true
	wait "$1" 2>/dev/null || true
}

stop_all() {
	while [ ${#pids[@]} -gt 0 ]; do
		stop "${pids[-1]}"
		unset 'pids[-1]'
	done
}

finish() {
	local status=$?

	stop_all
	[ $status -eq 0 ] || tail -n 3 "$tmp"/*.log >&2 || true
	rm -rf "$tmp"
	exit $status
}

# NAME COMMAND...: in the background; its standard error is appended to NAME.log.
start() {
	local name=$1

	shift
	"$@" >"$tmp/$name.out" 2>>"$tmp/$name.log" &
	pids+=($!)
}

# NAME COMMAND...: as a FastCGI program on the socket NAME.sock.
start_fastcgi() {
	local name=$1

	shift
	start "$name" spawn-fcgi -n -b 1024 -M 0666 -s "$tmp/$name.sock" -- "$@"
	eval "${name}_pid=\$!"
	await test -S "$tmp/$name.sock"
}

await() {
	local i

	for i in {1..200}; do
		"$@" 2>/dev/null && return
		sleep 0.05
	done
	die "in vain: $*"
}

is_free() {
	! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# A free port, below those the kernel gives to clients, as is the one 10000 above it, where the demo of
# coalesce listens; in $port, and never twice.
take_port() {
	until is_free $((++ports_from)) && is_free $((ports_from + 10000)); do
		:
	done
	port=$ports_from
}

answers() {
	curl -sf -o /dev/null --max-time 5 "$1"
}

# NAME CLIENTS URL [SCRIPT]: one measurement; adds "requests/s p50-us p99-us requests errors max-us
# percent" to NAME, the last of which is what wrk itself has taken of one core.
measure() {
	local name=$1 connections=$2 url=$3 script=${4:-report} TIMEFORMAT='%U %S %R'

	sleep 0.3	# what the one before has left unanswered comes to its end
	{ time wrk -t1 -c"$connections" -d"${seconds}s" --timeout 10s -s "$tmp/$script.lua" "$url" \
	    >"$tmp/wrk.out" 2>&1; } 2>"$tmp/wrk.time" || die "wrk: $(cat "$tmp/wrk.out")"
	paste -d ' ' <(sed -n 's/^RESULT //p' "$tmp/wrk.out") \
	    <(awk '{ printf "%.0f\n", ($1 + $2) / $3 * 100 }' "$tmp/wrk.time") >>"$tmp/results/$name"
	empty_logs
}

# But for those of a service that counts what is in them.
empty_logs() {
	local log

	for log in "$tmp"/*.log "$tmp"/*/log/access.log; do
		[ ! -s "$log" ] || [[ $log == "$tmp/$kept_logs/"* ]] || : >"$log"
	done
}

# CLIENTS NAME URL [NAME URL]...: all of them by turns, after a short warm-up.
measure_by_turns() {
	local connections=$1 round i

	shift
	for ((i = 1; i < $#; i += 2)); do
		answers "${@:i+1:1}" || die "no answer: ${*:i+1:1}"
		wrk -t1 -c"$connections" -d"$warm_up" --timeout 10s "${@:i+1:1}" >"$tmp/wrk.out"
	done
	for ((round = 0; round < rounds; round++)); do
		for ((i = 1; i < $#; i += 2)); do
			measure "${@:i:1}" "$connections" "${@:i+1:1}"
		done
	done
}

median() {
	sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# NAME COLUMN: the median of a column of its measurements.
column() {
	awk -v c="$2" '{ print $c }' "$tmp/results/$1" | median
}

# NAME OTHER: requests/s of one by the other's, the median of the rounds.
ratio() {
	paste <(awk '{ print $1 }' "$tmp/results/$1") <(awk '{ print $1 }' "$tmp/results/$2") |
	    awk '{ print $1 / $2 }' | median
}

errors() {
	awk '{ n += $5 } END { print n }' "$tmp/results/$1"
}

# NAME WORDS [OTHER]: a row of the table; with the ratio to OTHER.
row() {
	local name=$1 words=$2 other=${3:-} by='—'

	[ -z "$other" ] || by=$(printf '%.2f' "$(ratio "$name" "$other")")
	awk -v w="$words" -v rps="$(column "$name" 1)" -v p50="$(column "$name" 2)" \
	    -v p99="$(column "$name" 3)" -v by="$by" -v errors="$(errors "$name")" 'BEGIN {
		printf "| %s | %d | %.2f | %.2f | %s | %d |\n", w, rps, p50 / 1000, p99 / 1000, by, errors
	}'
}

head_of_table() {
	echo
	echo "### $1"
	echo
	echo "| candidate | requests/s | p50 ms | p99 ms | ratio | errors |"
	echo "| --- | --- | --- | --- | --- | --- |"
}

write_report() {
	cat >"$tmp/report.lua" <<'END'
function done(summary, latency, requests)
	local e = summary.errors
	io.write(string.format("RESULT %.1f %d %d %d %d %d\n",
	    summary.requests / summary.duration * 1e6, latency:percentile(50),
	    latency:percentile(99), summary.requests,
	    e.connect + e.read + e.write + e.timeout + e.status, latency.max))
end
END
}

# PATH: wrk's script of POSTs, each with a key of its own; send() makes one of a body.
write_sender() {
	cat <<END
local head = "POST $1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" ..
END
	cat <<'END'
    "Idempotency-Key: %08x-%04x-4000-8000-%012x\r\nContent-Length: %d\r\n\r\n%s"
local n = 0
local random = math.random

function init(args)
	local file = io.open("/dev/urandom", "rb")
	local a, b, c, d = file:read(4):byte(1, 4)
	file:close()
	math.randomseed(a + 256 * (b + 256 * (c + 256 * d)))
	run = random(0, 65535)
end

local function send(text)
	n = n + 1
	return head:format(random(0, 2147483647), run, n, #text, text)
end
END
}

# The nginx before floor, shelf and peer: caredesk's own as far as it bears on speed.
write_rig() {
	local rendered=$tmp/rendered.conf

	"$build/caredesk" render-nginx >"$rendered"
	mkdir -p "$tmp/rig/log" "$tmp/rig/tmp" "$tmp/rig/html"
	cat >"$tmp/rig/nginx.conf" <<END
$user_line
daemon off;
worker_processes auto;
worker_rlimit_nofile 16384;
pid nginx.pid;
error_log stderr warn;
events {
	worker_connections 8192;
}
http {
	server_tokens off;
	default_type application/json;
	client_body_temp_path tmp/body;
	fastcgi_temp_path tmp/fastcgi;
	proxy_temp_path tmp/proxy;
	scgi_temp_path tmp/scgi;
	uwsgi_temp_path tmp/uwsgi;
	keepalive_requests 100000;
	tcp_nodelay on;
$(awk '/^\t(geo|map) /, /^\t}/' "$rendered")
$(awk '/log_format/, /access_log/' "$rendered")
$(grep -E '^	fastcgi_(keep_conn|request_buff|buffer|param|pass_header)' "$rendered")
$(for name in floor constant peer bare; do
	echo "upstream $name { server unix:$tmp/$name.sock; keepalive 256; keepalive_requests 1000000; }"
done)
$(for name in accounts coalesce report; do
	echo "upstream $name { server unix:$tmp/data/run/$name.sock; keepalive 256; keepalive_requests 1000000; }"
done)
	server {
		listen 127.0.0.1:$rig_port backlog=1024;
$(grep -E -m 2 '^		set [$](operator|cached_at) ' "$rendered")
		location /floor/ { fastcgi_pass floor; }
		location /shelf/ { fastcgi_pass constant; }
		location /peer/ { fastcgi_pass peer; }
		location /bare/ { fastcgi_pass bare; }
		location /api/coalescence/ { fastcgi_pass coalesce; }
		location /events/report { fastcgi_pass report; }
		location /accounts { fastcgi_pass accounts; }
		location /static/ { root html; }
	}
}
END
}

start_rig() {
	take_port
	rig_port=$port
	rig=http://127.0.0.1:$rig_port
	write_rig
	start rig nginx -e stderr -p "$tmp/rig/" -c nginx.conf
	await eval '! is_free $rig_port'
}

# PROGRAM...: of the service in $tmp/data, which the rig is to reach.
start_rig_before() {
	local program

	chmod 711 "$tmp/data" "$tmp/data/run"
	start_rig
	for program; do
		chmod 666 "$tmp/data/run/$program.sock"
	done
}

# DATA [BUILD]: the service, with $house_settings, on $caredesk.
start_house() {
	local data=$1 from=${2:-$build} name

	name=${data##*/}
	take_port
	caredesk=http://127.0.0.1:$port
	printf 'user: %s\n%s' "$user" "$house_settings" >"$tmp/$name.yaml"
	: >"$tmp/$name.out"
	start "$name" "$from/caredesk" run --listen "127.0.0.1:$port" --data "$data" --config "$tmp/$name.yaml"
	await grep -q '^ready' "$tmp/$name.out"
}

# What was started last.
stop_last() {
	stop "${pids[-1]}"
	unset 'pids[-1]'
}

# [keep]: what it has written.
stop_caredesk() {
	stop_last
	[ "${1:-}" = keep ] || rm -rf "$tmp/data"
}

# NAME [DATA]: of one of our programs.
program_pid() {
	local pid data=${2:-$tmp/data}

	for pid in /proc/[0-9]*; do
		if [ "$(sed -n 's/^Name:\t//p' "$pid/status" 2>/dev/null)" = "$1" ] &&
		    [ "$(readlink "$pid/cwd")" = "$data" ]; then
			echo "${pid#/proc/}"
			return
		fi
	done
	die "$1 does not run"
}

rss_kib() {
	awk '/^VmRSS/ { print $2 }' "/proc/$1/status"
}

# The most it ever was.
peak_kib() {
	awk '/^VmHWM/ { print $2 }' "/proc/$1/status"
}

# NAME COMMAND...: how many seconds it takes, into NAME.
take_time() {
	local name=$1 begin

	shift
	begin=$(date +%s%N)
	"$@" >"$tmp/timed.out" 2>"$tmp/timed.log" || die "$*: $(cat "$tmp/timed.log" "$tmp/timed.out")"
	echo "$begin $(date +%s%N)" | awk '{ printf "%.6f\n", ($2 - $1) / 1e9 }' >>"$tmp/results/$name"
}

# NAME WORDS [OTHER]: a row of times; with how many times OTHER's.
time_row() {
	local by='—'

	[ $# -lt 3 ] || by=$(echo "$(column "$1" 1) $(column "$3" 1)" | awk '{ print $1 / $2 }')
	awk -v w="$2" -v ms="$(column "$1" 1)" -v by="$by" 'BEGIN {
		printf by == "—" ? "| %s | %.2f | %s |\n" : "| %s | %.2f | %.2f |\n", w, ms * 1000, by
	}'
}

times_head() {
	echo
	echo "### $1"
	echo
	echo "| candidate | ms | times |"
	echo "| --- | --- | --- |"
}

print_machine() {
	echo "$(date -u +%F); $(uname -sr); $(nproc) × $(sed -n 's/^model name.*: //p' /proc/cpuinfo |
	    head -n 1); $(nginx -v 2>&1 | sed 's/.*: //'); $(pkg-config --modversion fcgi |
	    sed 's/^/libfcgi /'); $(pkg-config --modversion libcurl | sed 's/^/libcurl /'); $(wrk -v 2>&1 |
	    awk 'NR == 1 { print $1, $2 }'); $("$build/caredesk" version); $rounds rounds of $seconds s"
}

# TOOL...: what all suites need; the folder, the build, the machine.
begin() {
	need_tools wrk nginx spawn-fcgi multiwatch curl awk sqlite3 "$@"
	tmp=$(mktemp -d "${TMPDIR:-/tmp}/caredesk-bench.XXXXXX")
	trap finish EXIT
	trap 'exit 1' INT TERM HUP
	mkdir "$tmp/results"
	user=$(id -un)
	user_line=
	if [ "$(id -u)" -eq 0 ]; then
		user=www-data	# the programs do not run as root
		user_line="user $user;"
		chmod 711 "$tmp"
	fi
	ulimit -n "$(ulimit -Hn)"
	make_build
	write_report
	print_machine
}

run_suites() {
	local suite

	for suite in "${suites[@]}"; do
		"bench_${suite/-/_}"
		stop_all
		rm -rf "$tmp"/data* "$tmp"/*.sock "$tmp"/*.out
	done
}
