#!/usr/bin/env bash
# Fuzzes the parsers of outside bytes by clang's libFuzzer, with the sanitizers, each for so long.
# Usage: t/fuzz.sh SECONDS [TARGET...], such as t/fuzz.sh 60 jsonr request
# What is learnt stays in build-fuzz/corpus; an input worth keeping belongs in t/fuzz/corpus.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-}
if ! [[ $seconds =~ ^[1-9][0-9]*$ ]]; then
	sed -n '3s/^# //p' "${BASH_SOURCE[0]}" >&2
	exit 2
fi
shift
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
mkdir -p build-fuzz/crashes
cd build-fuzz
[ -f Makefile ] || ../configure --quiet CC=clang --enable-fuzz --enable-asan --enable-ubsan
make --silent --jobs="$(nproc)" "${targets[@]/#/fuzz_}"

failed=0
for name in "${targets[@]}"; do
	mkdir -p "corpus/$name"
	log=$name.log
	# Findings go into the first folder; the second is only read.
	if "./fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
	    -artifact_prefix="crashes/$name-" -print_final_stats=1 "corpus/$name" \
	    "../t/fuzz/corpus/$name" > "$log" 2>&1; then
		runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
		echo "$name: ${runs:-0} runs, nothing found"
	else
		failed=$((failed + 1))
		grep -E '^(==[0-9]+==ERROR|SUMMARY|.*runtime error)|Assertion' "$log" || true
		echo "$name: broke; the input is the newest of build-fuzz/crashes/$name-*," \
		    "the whole story is in build-fuzz/$log"
	fi
done
[ "$failed" -eq 0 ]
