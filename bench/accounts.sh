#!/bin/bash
# The benchmarks of accounts, audios and images, beside the least that could do the same.
#
#	bench/accounts.sh [all|get|post]... [--rounds N] [--seconds S] [--accounts N]
#	bench/accounts.sh [upload|beside|download|memory]... [--rounds N] [--seconds S] [--rate N]
#
# Prints a table for each.  Candidates take turns within one run, for a machine is never twice the
# same: only ratios of one run mean anything.  All is on the loopback, in a temporary folder, on ports
# that are free, from --ports-from N on.  --rate is of the GETs, a second, that go on beside uploads.
# Uses the build named by CAREDESK_BUILD, else makes one in build-bench.

# shellcheck source=bench/common.sh
source "$(dirname "$0")/common.sh"

accounts=1000000	# of a large database
rate=200
uploads=10		# of each kind, in a round
every_suite=(get post upload beside download memory)
numbers+=(accounts rate uploads)
# An insurer that nobody asks: without any, caredesk would start three to try it with.
house_settings='coalesce: { upstreams: [ { name: none, url: "http://127.0.0.1:9/" } ] }'$'\n'

# The service over so many accounts.
start_people() {
	start_house "$tmp/data"
	stop_caredesk keep
	[ -e "$tmp/people.db" ] || make_people
	rm -f "$tmp"/data/db/accounts.db*
	cp "$tmp/people.db" "$tmp/data/db/accounts.db"
	chown --reference="$tmp/data/db" "$tmp/data/db/accounts.db"
	chmod 600 "$tmp/data/db/accounts.db"
	sync	# or the commits wait for the copy
	start_house "$tmp/data"
}

make_people() {
	cp "$tmp/data/db/accounts.db" "$tmp/people.db"
	[ ! -e "$tmp/data/db/accounts.db-wal" ] ||
	    cp "$tmp/data/db/accounts.db-wal" "$tmp/people.db-wal"
	ledger people "$tmp/people.db" "$accounts" >"$tmp/people.out"
}

# --- get

# @ is replaced by the number of an account, another each time.
write_number() {
	cat "$tmp/report.lua"
	cat <<END
local accounts = $accounts
END
	cat <<'END'
local before, after

function init(args)
	math.randomseed(os.time())
	before, after = wrk.format("GET"):match("^(.-)@(.*)$")
end

function request()
	return before .. math.random(1, accounts) .. after
end
END
}

bench_get() {
	local bytes by_mail='/accounts?email=ada.berg.@%40example.com' round

	write_number >"$tmp/number.lua"
	start_people
	start_rig_before accounts
	bytes=$(curl -s "$rig/accounts/$accounts" | wc -c)
	start_fastcgi floor "$build/bench/floor" "$bytes"
	for ((round = 0; round < rounds; round++)); do
		measure floor $clients "$rig/floor/@" number
		measure get $clients "$rig/accounts/@" number
		measure mail $clients "$rig$by_mail" number
		measure house-get $clients "$caredesk/accounts/@" number
		measure house-mail $clients "$caredesk$by_mail" number
	done
	head_of_table "get: one of $accounts accounts at random, $bytes bytes, $clients clients"
	row floor "floor: libfcgi and a constant of that size"
	row get "GET /accounts/ID behind the floor's nginx" floor
	row mail "GET /accounts?email= behind the floor's nginx" floor
	row house-get "GET /accounts/ID by caredesk run" floor
	row house-mail "GET /accounts?email= by caredesk run" floor
}

# --- post

# PATH: of the accounts, or of what takes them to measure itself.
write_accounts_post() {
	cat "$tmp/report.lua"
	write_sender "$1"
	cat <<'END'
local body = '{"name":"Ada Berg %08x","email":"%08x-%08x@example.com",' ..
    '"address":"Storgatan %d, 111 11 Stockholm"}'

function request()
	return send(body:format(random(0, 2147483647), random(0, 2147483647),
	    random(0, 2147483647), random(1, 65536)))
end
END
}

write_audios_post() {
	cat "$tmp/report.lua"
	write_sender /audios
	cat <<'END'
local body = '{"session_id":%d%09d,"ticks":[%s],"selected_tick":%d,"step_count":3}'
local drawn = {}

-- To draw each anew would take wrk longer than the server.
for i = 1, 1024 do
	local ticks = {}
	for j = 1, 15 do
		ticks[j] = string.format("-%d.%03d", random(10, 99), random(0, 999))
	end
	drawn[i] = table.concat(ticks, ",")
end

function request()
	return send(body:format(random(1, 2147483647), random(0, 999999999),
	    drawn[random(1, 1024)], random(0, 14)))
end
END
}

# NAME: the bare loop that inserts its rows, over a copy of its empty database, as measure() does.
measure_bare() {
	ledger insert "$tmp/bare-$1.db" "$seconds" 1 --rows "$1" >"$tmp/bare.out"
	awk '{ print $1, $4 * 1000, $7 * 1000, 0, 0, $9 * 1000 }' "$tmp/bare.out" \
	    >>"$tmp/results/bare-$1"
}

# NAME: of a database of the service that has stopped.
copy_database() {
	local suffix

	for suffix in '' -wal; do
		[ ! -e "$tmp/data/db/$1.db$suffix" ] ||
		    cp "$tmp/data/db/$1.db$suffix" "$tmp/bare-$1.db$suffix"
	done
}

bench_post() {
	local name round

	write_accounts_post /accounts >"$tmp/accounts.lua"
	write_accounts_post /floor/ >"$tmp/floor.lua"
	write_audios_post >"$tmp/audios.lua"
	start_people
	stop_caredesk keep
	for name in accounts audios; do
		copy_database $name
	done
	start_house "$tmp/data"
	start_rig
	start_fastcgi floor "$build/bench/floor" 290
	for ((round = 0; round < rounds; round++)); do
		measure floor-post $clients "$rig/floor/" floor
		for name in accounts audios; do
			measure_bare $name
			measure post-$name $clients "$caredesk/$name" $name
		done
	done
	head_of_table "post: at $accounts accounts, every commit on disk, $clients clients"
	row bare-accounts "the bare loop, accounts"
	row post-accounts "POST /accounts" bare-accounts
	row bare-audios "the bare loop, audios"
	row post-audios "POST /audios" bare-audios
	row floor-post "floor: libfcgi reads a POST, nothing is kept"
	printf '\nOf the floor that keeps nothing: accounts %.2f, audios %.2f\n' \
	    "$(ratio post-accounts floor-post)" "$(ratio post-audios floor-post)"
	rm "$tmp"/bare-*
}

# --- images

# NAME BYTES MEGAPIXELS ORIENTATION
make_picture() {
	[ -e "$tmp/$1.jpg" ] ||
	    "$build/bench/picture" "$tmp/$1.jpg" "$2" "$3" "$4" >"$tmp/$1.size"
}

# COUNT: so many accounts, the first ones of a new service.
start_few() {
	local i

	start_house "$tmp/data"
	for ((i = 1; i <= $1; i++)); do
		curl -sSf -o "$tmp/answer" -H 'Content-Type: application/json' "$caredesk/accounts" -d \
		    '{"name":"Ada Berg","email":"'"$i"'@example.com","address":"Storgatan 1"}'
	done
}

# ID PICTURE OPTION...: as the image of an account; the answer is in $tmp/answer.
upload() {
	local id=$1 picture=$2

	shift 2
	curl -sSf -o "$tmp/answer" -H 'Expect:' -F "image=@$tmp/$picture.jpg;type=image/jpeg" "$@" \
	    "$caredesk/accounts/$id/upload_image"
}

# Of the account that was answered last.
link_of() {
	sed 's/.*"image_hosted_url":"\([^"]*\)".*/\1/' "$tmp/answer"
}

# PICTURE: nothing of its EXIF may be left.
check_shown() {
	curl -sSf -o "$tmp/shown.jpg" "$(link_of)"
	grep -q N59.3293 "$tmp/$1.jpg" || die "$1.jpg has no place in it"
	! grep -q -e Exif -e N59.3293 "$tmp/shown.jpg" || die "what is shown of $1.jpg has EXIF"
}

# PICTURE ORIENTATION: so many of each.
measure_upload() {
	local i

	for ((i = 0; i < uploads; i++)); do
		"$build/bench/strip" "$tmp/$1.jpg" "$tmp/stripped.jpg" "$2" 1 >>"$tmp/results/strip-$1"
		upload 1 "$1" -w '%{time_total}\n' >>"$tmp/results/upload-$1"
	done
	check_shown "$1"
}

bench_upload() {
	local round

	make_picture upright 2000000 8 1
	make_picture turned 2000000 8 6
	start_few 1
	for ((round = 0; round < rounds; round++)); do
		measure_upload upright 1
		measure_upload turned 6
	done
	times_head "upload: a JPEG of $(cat "$tmp/turned.size"), one after another"
	time_row strip-upright "bare: read, strip, decode, write, fsync"
	time_row upload-upright "POST upload_image, upright" strip-upright
	time_row strip-turned "bare: read, strip, turn, write, fsync"
	time_row upload-turned "POST upload_image, on its side" strip-turned
}

# NAME: the GETs at their pace.
measure_pace() {
	"$build/bench/pace" "${caredesk##*:}" /accounts/ "$accounts" "$rate" "$seconds" >"$tmp/pace.out"
	cat "$tmp/pace.out" >>"$tmp/results/$1"
	empty_logs
}

# COUNT PARALLEL PICTURE: a configuration of curl, to as many accounts as go in parallel.
write_uploads() {
	local i

	for ((i = 0; i < $1; i++)); do
		[ $i -eq 0 ] || echo next
		cat <<END
url = "$caredesk/accounts/$((i % $2 + 1))/upload_image"
form = "image=@$tmp/$3.jpg;type=image/jpeg"
header = "Expect:"
output = "/dev/null"
write-out = "%{http_code}\n"
END
	done
}

# What was answered, of the statuses that uploads have printed.
count_statuses() {
	sort "$1" | uniq -c | awk '{ printf "%s%d × %s", sep, $1, $2; sep = ", " }'
}

# NAME WORDS: one row.
pace_row() {
	awk -v w="$2" -v p50="$(column "$1" 1)" -v p99="$(column "$1" 2)" -v most="$(column "$1" 3)" '
		{ requests += $4; errors += $5 }
		END { printf "| %s | %d | %.2f | %.2f | %.2f | %d |\n", w, requests, p50 / 1000,
		    p99 / 1000, most / 1000, errors }' "$tmp/results/$1"
}

bench_beside() {
	local round

	make_picture turned 2000000 8 6
	start_people
	write_uploads $((seconds * 200)) 10 turned >"$tmp/uploads.curl"
	for ((round = 0; round < rounds; round++)); do
		measure_pace quiet
		start uploads stdbuf -oL curl --no-progress-meter -Z --parallel-max 10 -K "$tmp/uploads.curl"
		sleep 0.5
		measure_pace beside
		kill -0 "${pids[-1]}" || die "the uploads ended first"
		stop_last
		cat "$tmp/uploads.out" >>"$tmp/results/uploads"
		sleep 2	# until what was under way is done
	done
	echo
	echo "### beside: GET /accounts/ID, $rate a second, and ten uploads of 2 MB at once"
	echo
	echo "| when | requests | p50 ms | p99 ms | slowest ms | errors |"
	echo "| --- | --- | --- | --- | --- | --- |"
	pace_row quiet "no uploads"
	pace_row beside "ten uploads at once, again and again"
	echo
	paste "$tmp/results/quiet" "$tmp/results/beside" | awk '{ print ($7 - $2) / 1000 }' | median |
	    xargs printf 'The p99 is higher by %.2f ms.  Uploads, by status: '
	count_statuses "$tmp/results/uploads"
	echo
}

# PICTURE: the signed link of what is stored, and the same bytes as a file of the same nginx.
measure_link() {
	upload 1 "$1"
	check_shown "$1"
	cp "$tmp/shown.jpg" "$tmp/data/html/problems/$1.html"
	measure_by_turns $clients "file-$1" "$caredesk/problems/$1" "link-$1" "$(link_of)"
}

# PICTURE
download_rows() {
	local bytes

	bytes=$(stat -c %s "$tmp/data/html/problems/$1.html")
	row "file-$1" "a static file of $bytes bytes, by the same nginx"
	row "link-$1" "an image of $bytes bytes" "file-$1"
}

bench_download() {
	make_picture thumb 20000 0.1 1
	make_picture turned 2000000 8 6
	start_few 1
	measure_link thumb
	measure_link turned	# takes the place of the other one
	head_of_table "download: an image by its signed link, $clients clients"
	download_rows thumb
	download_rows turned
}

# --- memory

# PID FIELD
kib_of() {
	awk -v field="$2:" '$1 == field { print $2 }' "/proc/$1/status"
}

# PID NAME: the most RSS and RssAnon while $tmp/sampled is there, into NAME.
sample_memory() {
	local key value rss=0 anonymous=0

	while [ -e "$tmp/sampled" ]; do
		while read -r key value _; do
			case $key in
			VmRSS:) rss=$((value > rss ? value : rss)) ;;
			RssAnon:) anonymous=$((value > anonymous ? value : anonymous)) ;;
			esac
		done <"/proc/$1/status"
		sleep 0.02
	done
	echo "$rss $anonymous" >"$tmp/results/$2"
}

image_memory_row() {
	echo "| $1 | $2 | $3 |"
}

# PID COUNT PARALLEL PICTURE WORDS: uploads, and the most that the program had meanwhile.
measure_memory() {
	local pid=$1 sampler

	write_uploads "$2" "$3" "$4" >"$tmp/uploads.curl"
	: >"$tmp/sampled"
	sample_memory "$pid" sampled &
	sampler=$!
	curl --no-progress-meter -Z --parallel-max "$3" -K "$tmp/uploads.curl" >"$tmp/uploads.out" || true
	rm "$tmp/sampled"
	wait "$sampler"
	# shellcheck disable=SC2046
	image_memory_row "$5 ($(count_statuses "$tmp/uploads.out"))" $(cat "$tmp/results/sampled")
}

bench_memory() {
	local program pid

	make_picture large 10485760 27 6
	start_few 20
	sleep 1
	echo
	echo "### memory: KiB; uploads of $(cat "$tmp/large.size"), on its side"
	echo
	echo "| when | RSS | RssAnon |"
	echo "| --- | --- | --- |"
	for program in $(sed -n 's/^#define PROGRAMS//p' "$source/src/lib/programs.h" | tr -d '",'); do
		pid=$(program_pid "$program")
		image_memory_row "$program, idle" "$(kib_of "$pid" VmRSS)" "$(kib_of "$pid" RssAnon)"
	done
	pid=$(program_pid accounts)
	measure_memory "$pid" 1 1 large "accounts, at most, during one upload"
	measure_memory "$pid" 20 20 large "accounts, at most, during 20 at once"
	sleep 5
	image_memory_row "accounts, 5 s after" "$(kib_of "$pid" VmRSS)" "$(kib_of "$pid" RssAnon)"
}

read_options "$@"
begin
run_suites
