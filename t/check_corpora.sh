#!/usr/bin/env bash
# Each fuzz target over the inputs kept for it, and over mutations of them, the same ones each time; a
# line of TAP a target.  What broke once stays whole.
source=${CAREDESK_SOURCE:-$(cd "$(dirname "$0")/.." && pwd)}
build=${CAREDESK_BUILD:-$source/build}
runs=${CAREDESK_MUTATIONS:-10000}

n=0
for target in "$build"/fuzz_*; do
	[[ -f $target && -x $target ]] || continue
	name=$(basename "$target")
	name=${name#fuzz_}
	n=$((n + 1))
	kept=$build/finding-$name
	mutate=(-runs="$runs" -keep="$kept")
	# Made with libFuzzer, it would run each file so often; t/fuzz.sh is for that.
	! grep -q LLVMFuzzerRunDriver "$target" || mutate=()
	# The files one by one, not their folder: a target made with libFuzzer would go on from there.
	if said=$(timeout 120 "$target" "${mutate[@]}" "$source/t/fuzz/corpus/$name"/* 2>&1); then
		echo "ok $n - neither the inputs of $name nor mutations of them break anything"
	else
		echo "not ok $n - neither the inputs of $name nor mutations of them break anything"
		printf '%s\n' "$said" | tail -n 40 | sed 's/^/#  /'
		[ ! -f "$kept" ] || echo "#  the input is $kept"
	fi
done
if [ "$n" -eq 0 ]; then
	echo "1..0 # SKIP there are no fuzz targets in $build"
else
	echo "1..$n"
fi
