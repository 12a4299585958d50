#!/usr/bin/env bash
# Fuzzes the parsers of outside bytes by clang's libFuzzer, with the sanitizers, one after the other.
# Usage: t/fuzz.sh [SECONDS-PER-TARGET] [TARGET...], such as t/fuzz.sh 60 jsonr request
# What is learnt stays in build-fuzz/corpus, what broke in build-fuzz/findings; an input worth keeping
# belongs in t/fuzz/corpus.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-60}
if ! [[ $seconds =~ ^[1-9][0-9]*$ ]]; then
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

[ -x configure ] || ./bootstrap
mkdir -p build-fuzz/findings
cd build-fuzz
[ -f Makefile ] || ../configure --quiet CC=clang --enable-fuzz --enable-asan --enable-ubsan
make --silent --jobs="$(nproc)" "${targets[@]/#/fuzz_}"

# figure NAME LOG: one of libFuzzer's last words.
figure() {
	sed -n "s/^stat::$1: *//p" "$2"
}

failed=0
row='| %-10s | %11s | %9s | %8s | %10s | %8s |\n'
printf "$row" target executions 'a second' coverage 'new inputs' findings
for name in "${targets[@]}"; do
	mkdir -p "corpus/$name"
	log=$name.log
	found=0
	# What is new goes into the first folder; the second is only read.
	nice "./fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
	    -artifact_prefix="findings/$name-" -print_final_stats=1 "corpus/$name" \
	    "../t/fuzz/corpus/$name" > "$log" 2>&1 || found=1
	failed=$((failed + found))
	printf "$row" "$name" "$(figure number_of_executed_units "$log")" \
	    "$(figure average_exec_per_sec "$log")" \
	    "$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)" \
	    "$(figure new_units_added "$log")" "$found"
	if [ "$found" -gt 0 ]; then
		grep -E '^(==[0-9]+==ERROR|SUMMARY|.*runtime error)|Assertion' "$log" || true
		echo "$name: the input is the newest of build-fuzz/findings/$name-*," \
		    "the whole story is in build-fuzz/$log"
	fi
done
[ "$failed" -eq 0 ]
