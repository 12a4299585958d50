#!/usr/bin/env bash
# Each fuzz target over the inputs kept for it, a line of TAP a target: what broke once stays whole.
source=${CAREDESK_SOURCE:-$(cd "$(dirname "$0")/.." && pwd)}
build=${CAREDESK_BUILD:-$source/build}

n=0
for target in "$build"/fuzz_*; do
	[[ -f $target && -x $target ]] || continue
	name=$(basename "$target")
	name=${name#fuzz_}
	n=$((n + 1))
	# The files one by one, not their folder: a target made with libFuzzer would go on from there.
	if said=$(timeout 120 "$target" "$source/t/fuzz/corpus/$name"/* 2>&1); then
		echo "ok $n - the inputs of $name break nothing"
	else
		echo "not ok $n - the inputs of $name break nothing"
		printf '%s\n' "$said" | tail -n 40 | sed 's/^/#  /'
	fi
done
if [ "$n" -eq 0 ]; then
	echo "1..0 # SKIP there are no fuzz targets in $build"
else
	echo "1..$n"
fi
