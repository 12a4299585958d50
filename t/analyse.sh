#!/usr/bin/env bash
# Three static analysers over all of src: t/analyse.sh [BUILD-FOLDER]; some four minutes.
# What they say is printed and fails, but for what is known not to be so (below).
set -euo pipefail
cd "$(dirname "$0")/.."
. build-aux/setup.sh
install_packages "${run_packages[@]}" clang-tidy cppcheck
build=${1:-build}
[ $# -gt 0 ] || build build all
build=$(cd "$build" && pwd)

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# cppcheck's uninitvar takes the address of what a function is to fill for a use of it; gcc knows better.
checks='-*,clang-analyzer-*,-clang-analyzer-optin.performance.*'
checks+=',-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling'
cat > "$dir/rules" <<EOF
include Makefile
cppcheck:
	cppcheck --quiet --std=c11 -I$PWD/src -I. --enable=warning,performance,portability \\
	    --suppress=uninitvar --suppress=ctuuninitvar --template='{file}:{line}:{column}: warning: {message} [{id}]' \$(F)
gcc:
	\$(COMPILE) -fanalyzer -c -o /dev/null \$(F)
clang-tidy:
	clang-tidy --quiet --checks='$checks' \$(F) -- \\
	    \$(filter-out -ftrivial-auto-var-init=zero,\$(COMPILE:\$(CC)%=%)) 2>/dev/null
EOF

# No mistakes: file, checker, and why not.
cat > "$dir/known" <<'EOF'
src/caredesk.c sizeofDivisionMemfunc: the size is in bytes, of a text
src/caredesk_progress.c ctuPointerArith: one past the end may be pointed at
src/lib/commit.c autoVariables: a change is taken off the list before its caller goes on
src/lib/decoder.c doubleFree: the keeper, which frees its own, does not return
src/lib/image.c memleak: what was made smaller is kept
src/lib/upstream.c -Wanalyzer-malloc-leak: pthread_setspecific() keeps a thread's lane
src/lib/answer.c -Wanalyzer-malloc-leak: the answer keeps what has grown
src/lib/counts.c clang-analyzer-core.UndefinedBinaryOperatorResult: the first row begins a group
src/lib/conf.c clang-analyzer-core.NonNullParamChecker: "listen" has a default
src/lib/image.c clang-analyzer-optin.portability.UnixAPI: a file that was made is not empty
src/coalesce.c clang-analyzer-core.DivideZero: only values that are there are added up
EOF

# "FILE:LINE:COLUMN: warning: WORDS [CHECKER]" as "FILE CHECKER: line LINE: WORDS", known ones left out.
unknown() {
	sed -nE 's|^.*(src/[^:]*):([0-9]+):[0-9]+: (warning\|error): (.*) \[([^]]*)\]$|\1 \5: line \2: \4|p' |
	    sort -u | grep -vFf <(sed 's/: .*/:/' "$dir/known") || true
}

for tool in cppcheck gcc clang-tidy; do
	say "$tool"
	printf '%s\n' "$PWD"/src/*.c "$PWD"/src/lib/*.c |
	    { xargs -P "$(nproc)" -I FILE make --silent -C "$build" -f "$dir/rules" "$tool" F=FILE 2>&1 ||
		    echo "src/$tool:0:0: error: it did not run [-]"; } | unknown
done | tee "$dir/found"
[ ! -s "$dir/found" ]
