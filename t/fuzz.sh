#!/usr/bin/env bash
# Fuzzes the parsers of outside bytes by clang's libFuzzer, with the sanitizers, one after the other.
# Usage: t/fuzz.sh [SECONDS-PER-TARGET | keep] [TARGET...], such as t/fuzz.sh 60 jsonr request
# What is learnt stays in build-fuzz/corpus, what broke in build-fuzz/findings.  "keep" adds to t/fuzz/corpus
# what reaches code that no input there reaches, the shortest ones, until a target has 99.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. build-aux/setup.sh

seconds=${1:-60}
if ! [[ $seconds =~ ^([1-9][0-9]*|keep)$ ]]; then
	sed -n '3s/^# //p' "${BASH_SOURCE[0]}" >&2
	exit 2
fi
[ $# -eq 0 ] || shift
targets=("$@")
if [ $# -eq 0 ]; then
	targets=(t/fuzz/fuzz_*.c)
	targets=("${targets[@]#t/fuzz/fuzz_}")
	targets=("${targets[@]%.c}")
fi
for name in "${targets[@]}"; do
	[ -f "t/fuzz/fuzz_$name.c" ] || { echo "there is no target $name" >&2; exit 2; }
done

command -v clang >/dev/null || install_packages clang libclang-rt-14-dev
[ -x configure ] || ./bootstrap
mkdir -p build-fuzz/findings
cd build-fuzz
[ -f Makefile ] || ../configure --quiet CC=clang --enable-fuzz --enable-asan --enable-ubsan
make --silent --jobs="$(nproc)" "${targets[@]/#/fuzz_}"

# keep_learnt TARGET: only whether code is reached counts, not how often, or the inputs were too many.
keep_learnt() {
	local kept=../t/fuzz/corpus/$1 merged
	merged=$(mktemp -d)
	cp "$kept"/* "$merged"
	nice "./fuzz_$1" -merge=1 -use_counters=0 -max_len=400 "$merged" "corpus/$1" > "$1.merge.log" 2>&1
	find "$merged" -type f -printf '%s %f\n' | sort -n | while read -r _ file; do
		[ -e "$kept/$file" ] || [ "$(find "$kept" -type f | wc -l)" -ge 99 ] ||
		    cp "$merged/$file" "$kept/$file"
	done
	rm -r "$merged"
	echo "$1: $(find "$kept" -type f | wc -l) inputs"
}

# figure NAME LOG: one of libFuzzer's last words.
figure() {
	sed -n "s/^stat::$1: *//p" "$2"
}

row='| %-10s | %11s | %9s | %8s | %10s | %8s |\n'
# fuzz TARGET: a row of the table; false if something broke.
fuzz() {
	local name=$1 log=$1.log found=0
	mkdir -p "corpus/$name"
	# What is new goes into the first folder; the second is only read.
	nice "./fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
	    -artifact_prefix="findings/$name-" -print_final_stats=1 "corpus/$name" \
	    "../t/fuzz/corpus/$name" > "$log" 2>&1 || found=1
	printf "$row" "$name" "$(figure number_of_executed_units "$log")" \
	    "$(figure average_exec_per_sec "$log")" \
	    "$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)" \
	    "$(figure new_units_added "$log")" "$found"
	[ "$found" -eq 0 ] && return
	grep -E '^(==[0-9]+==ERROR|SUMMARY|.*runtime error)|Assertion' "$log" || true
	echo "$name: the input is the newest of build-fuzz/findings/$name-*," \
	    "the whole story is in build-fuzz/$log"
	return 1
}

failed=0
[ "$seconds" = keep ] || printf "$row" target executions 'a second' coverage 'new inputs' findings
for name in "${targets[@]}"; do
	if [ "$seconds" = keep ]; then
		keep_learnt "$name"
	else
		fuzz "$name" || failed=1
	fi
done
exit "$failed"
