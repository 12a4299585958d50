#!/bin/bash
# Many mixed requests to a real service, and what it holds of them when they are over: memory,
# descriptors, threads.
#
#	t/soak.sh [REQUESTS] [--connections N] [--warm-up-percent N] [--events N] [--rest SECONDS]
#		[--ports-from N]
#
# All resources are asked, 1 in 100 requests is abuse (bench/mix_kinds.c), over a ledger that has
# --events already, a tenth as many accounts and paths, and tests of hearing.  A hundredth more, but at
# least 20,000, warms up; then all rest for so long that idle threads and connections have ended, before
# and after.  Prints a table, and exits with 1 if a program's memory grew by 1 MiB or more after the
# warm-up, if its descriptors or threads at rest are others than before, if an answer was broken or not
# what it must be, or if a server error came but 502 and 504 of insurers.  What goes on growing in the
# second half, a column of its own, is what leaks; --warm-up-percent 100 judges by that.  Uses the build
# named by CAREDESK_BUILD, else makes one in build-bench.  2,000,000 requests take some ten minutes on
# two cores that have nothing else to do.

# shellcheck source=bench/common.sh
source "$(dirname "$0")/../bench/common.sh"

requests=2000000
connections=32
rest=75			# a parked thread and an idle connection end after 60 s
grown_kib_max=1024
warm_up_percent=1
warm_up_min=20000	# requests
events=200000
numbers=(requests connections warm-up-percent events rest ports-from)
every_suite=(soak)

# --- what the processes hold

# All that stand in the data folder, as "NAME-N PID": nginx's workers and what watches a
# program have names of several.
list_processes() {
	local pid name

	for pid in /proc/[0-9]*; do
		pid=${pid#/proc/}
		[ "$(readlink "/proc/$pid/cwd")" = "$tmp/data" ] || continue
		name=$(sed -n 's/^Name:\t//p' "/proc/$pid/status") || continue
		case $(tr '\0' ' ' <"/proc/$pid/cmdline") in
		*worker\ process*) name=nginx-worker ;;
		*cache\ *) name=nginx-cache ;;
		esac
		[ "$name" != accounts ] || ! is_child_of accounts "$pid" || name=accounts-decoder
		echo "$name $pid"
	done 2>/dev/null | sort -k1,1 -k2,2n | awk '{ print $1 "-" ++seen[$1], $2 }'
}

# NAME PID: a process whose parent has that name is the keeper of what reads pictures.
is_child_of() {
	local parent

	parent=$(awk '/^PPid/ { print $2 }' "/proc/$2/status")
	[ "$(sed -n 's/^Name:\t//p' "/proc/$parent/status")" = "$1" ]
}

# FILE: "NAME PID RSS-KiB PSS-KiB DESCRIPTORS THREADS" of each.
sample() {
	local name pid

	list_processes | while read -r name pid; do
		echo "$name $pid $(awk '/^Rss:/ { r = $2 } /^Pss:/ { p = $2 } END { print r + 0, p + 0 }' \
		    "/proc/$pid/smaps_rollup") $(find "/proc/$pid/fd" -mindepth 1 | wc -l)" \
		    "$(awk '/^Threads/ { print $2 }' "/proc/$pid/status")"
	done >"$1" 2>/dev/null
}

# Bytes of the largest log of a database.
note_wal() {
	local bytes

	bytes=$(stat -c %s "$tmp"/data/db/*-wal | sort -n | tail -n 1)
	[ "${bytes:-0}" -le "$wal_max" ] || wal_max=$bytes
}

# --- the load

write_token() {
	"$build/caredesk" token --sub soak --role admin --role accountant --data "$tmp/data" \
	    --config "$tmp/data.yaml" >"$tmp/token.new"
	mv "$tmp/token.new" "$tmp/token"
	token_s=$SECONDS
}

# REQUESTS: all of them; their windows are a twentieth each.
send() {
	local words at=0 mix_status=0

	mkfifo "$tmp/mix.pipe"
	"$build/bench/mix" "$port" "$tmp/token" "$connections" 0 10 requests "$1" $(($1 / 20 + 1)) \
	    >"$tmp/mix.pipe" 2>>"$tmp/mix.log" &
	pids+=($!)
	exec 4<"$tmp/mix.pipe"
	rm "$tmp/mix.pipe"
	rm -f "$tmp/windows" "$tmp/kinds" "$tmp"/sample-*
	touch "$tmp/windows" "$tmp/kinds"
	while read -r -t 1 words <&4 || [ $? -gt 128 ]; do
		note_wal
		[ $((SECONDS - token_s)) -lt 1200 ] || write_token
		case $words in
		window*)
			at=$((at + 1))
			echo "$words" >>"$tmp/windows"
			sample "$tmp/sample-$(printf %02d $at)"
			;;
		kind*) echo "${words#kind }" >>"$tmp/kinds" ;;
		total*) total=$words ;;
		esac
		words=
	done
	exec 4<&-
	wait "${pids[-1]}" || mix_status=$?
	unset 'pids[-1]'
	[ $mix_status -lt 2 ] || die "mix: $(tail -n 3 "$tmp/mix.log")"
}

# --- what is said of it

# A process with another id than at the warm-up was started anew.
print_processes() {
	echo
	echo "| process | RSS KiB, warm | half-way | at the end | growth | of it in the second half |" \
	    "Pss KiB, warm | at the end | descriptors at rest | threads at rest |"
	echo "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
	awk -v max="$grown_kib_max" -v breaches="$tmp/breaches" '
		FILENAME ~ /warm$/ { names[++count] = $1; pid[$1] = $2; rss[$1] = $3; pss[$1] = $4 }
		FILENAME ~ /half$/ { half[$1] = $3 }
		FILENAME ~ /end$/ { end_rss[$1] = $3; end_pss[$1] = $4; end_pid[$1] = $2 }
		FILENAME ~ /before$/ { fds[$1] = $5; threads[$1] = $6 }
		FILENAME ~ /after$/ { fds_after[$1] = $5; threads_after[$1] = $6 }
		END {
			for (i = 1; i <= count; i++) {
				n = names[i]
				# It ends once it has read the names of what is kept.
				if (n ~ /^nginx-cache/ && !(n in end_pid))
					continue
				grown = end_rss[n] - rss[n]
				printf "| %s | %d | %d | %d | %+d | %+d | %d | %d | %d%+d | %d%+d |\n", n,
				    rss[n], half[n], end_rss[n], grown, end_rss[n] - half[n], pss[n],
				    end_pss[n], fds[n], fds_after[n] - fds[n], threads[n],
				    threads_after[n] - threads[n]
				if (end_pid[n] != pid[n])
					print n " was started anew" >breaches
				if (grown >= max)
					print n " grew by " grown " KiB" >breaches
				if (fds_after[n] != fds[n])
					print n " has " fds_after[n] " descriptors, not " fds[n] >breaches
				if (threads_after[n] != threads[n])
					print n " has " threads_after[n] " threads, not " threads[n] >breaches
			}
		}' "$tmp/warm" "$tmp/half" "$tmp/end" "$tmp/before" "$tmp/after"
}

# The medians of the first and of the last five windows.
print_windows() {
	local first last

	first=$(head -n 5 "$tmp/windows" | awk '{ print $7 }' | median)
	last=$(tail -n 5 "$tmp/windows" | awk '{ print $7 }' | median)
	awk -v first="$first" -v last="$last" -v wal="$wal_max" 'BEGIN {
		printf "p99 of the first quarter %.2f ms, of the last %.2f ms: %.2f times\n", first / 1000,
		    last / 1000, last / first
		printf "largest WAL %d KiB\n", wal / 1024
	}'
}

print_total() {
	echo "$total" | awk '{ printf "%d requests in %.0f s, %.0f/s: %d answered as they must be, %d " \
	    "refused in time, %d of them 502 or 504 of insurers; wrong %d, broken %d, given up %d\n", $2,
	    $10, $2 / $10, $4, $5, $6, $9, $8, $7 }'
	echo "$total" | awk '$7 + $8 + $9 > 0 { print "answers were broken, wrong or did not come" }' \
	    >>"$tmp/breaches"
}

# The way there: what ends grows to a bound, and what leaks goes on.  Of those that grew at all.
print_growth() {
	echo
	echo "RSS in KiB after each twentieth:"
	echo
	awk '{ rss[$1] = rss[$1] " " $3; if (!($1 in first)) first[$1] = $3; last[$1] = $3 }
		END { for (n in rss) if (last[n] - first[n] > 256) print "    " n rss[n] }' \
	    "$tmp"/warm "$tmp"/sample-* | sort
}

print_kinds() {
	echo
	echo "| answers | status | | request |"
	echo "| --- | --- | --- | --- |"
	sort -k4 -k2,2n "$tmp/kinds" | sed 's/^\([^ ]*\) \([^ ]*\) \([^ ]*\) \(.*\)/| \1 | \2 | \3 | \4 |/'
}

# NAME COMMAND...: on the database of that name, while nobody has it.
fill() {
	local name=$1 folder=$tmp/data/db

	shift
	"$@" >"$tmp/fill-$name.out"
	chown --reference="$folder" "$folder/$name".db*
	chmod 600 "$folder/$name".db*
}

# As one that is in use has them: caches are not full of what there is.
fill_all() {
	"$build/caredesk" demo --events "$events" --caregivers 10000 --data "$tmp/data" \
	    --config "$tmp/data.yaml" >"$tmp/demo.out" 2>&1
	fill accounts ledger people "$tmp/data/db/accounts.db" $((events / 10))
	fill audios ledger insert "$tmp/data/db/audios.db" 3 1 --rows audios
	"$build/bench/hits" log "$events" $((events / 10)) $((events / 10)) 1 >>"$tmp/data/log/access.log"
}

soak() {
	local warm_up=$((requests * warm_up_percent / 100))

	wal_max=0
	take_port
	start insurer "$build/bench/slow" "$port" 0
	house_settings="auth: {mode: required, issuer: 'https://issuer.example/', audience: caredesk}
coalesce: {upstreams: [{name: alpha, url: 'http://127.0.0.1:$port/a'}, {name: beta, url: 'http://127.0.0.1:$port/b'}]}
"
	start_house "$tmp/data"
	stop_caredesk keep
	fill_all
	start_house "$tmp/data"
	write_token
	send $((warm_up > warm_up_min ? warm_up : warm_up_min))
	sample "$tmp/warm"
	sleep "$rest"
	sample "$tmp/before"
	send "$requests"
	sample "$tmp/end"
	cp "$tmp/sample-10" "$tmp/half"
	sleep "$rest"
	sample "$tmp/after"
	: >"$tmp/breaches"
	print_total
	print_windows
	print_processes
	print_growth
	print_kinds
	[ ! -s "$tmp/mix.log" ] || sed 's/^/# /' "$tmp/mix.log"
	if [ -s "$tmp/breaches" ]; then
		sed 's/^/BREACH: /' "$tmp/breaches"
		exit 1
	fi
}

if [[ ${1:-} =~ ^[0-9]+$ ]]; then
	set -- --requests "$@"
fi
read_options "$@"
# shellcheck disable=SC2119	# it takes the names of tools
begin
soak
