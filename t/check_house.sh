#!/usr/bin/env bash
# The rules of the house, each a line of TAP: who may include whom, what may not be called, how long a
# function may be, what must exist beside what.
shopt -s lastpipe nullglob
cd "${CAREDESK_SOURCE:-$(dirname "$0")/..}" || exit 99

n=0
# rule WORDS: passes if standard input is empty; else each line of it is a breach.
rule() {
	local breaches
	breaches=$(cat)
	n=$((n + 1))
	if [ -z "$breaches" ]; then
		echo "ok $n - $1"
	else
		echo "not ok $n - $1"
		printf '%s\n' "$breaches" | sed 's/^/#  /'
	fi
}

sources=(src/*.c src/*.h src/lib/*.c src/lib/*.h)

# A file may include only what stands on a lower step; nothing on the shelf reaches up to a program.
declare -A step=([account]=5 [email]=1 [err]=0 [text]=0 [who]=0 [embedded]=0 [latency]=0 [programs]=0 [buffer]=1 [clock]=1 [user]=1 [pool]=2 [log]=2
    [metrics]=2 [digest]=0 [conf]=3 [db]=3 [db_sqlite]=4 [jsonr]=3 [jsonw]=3 [request]=3 [response]=3
    [image]=2 [link]=1 [trust]=1
    [commit]=4 [etag]=4 [health]=4 [hit]=2 [tally]=3 [page]=4 [problem]=4 [scope]=4 [scrape]=4 [upload]=4 [upstream]=4
    [blob]=3 [form]=4 [confine]=4 [decoder]=5
    [jwk]=4 [token]=5 [keyring]=6 [auth]=7 [provider]=7
    [answer]=5 [audio]=5 [audit]=5 [counts]=5 [ledger]=6 [tariff]=7 [person]=6 [bulk]=8 [load]=4 [route]=8 [serve]=9)
for file in src/lib/*.[ch]; do
	own=$(basename "${file%.*}")
	[ -n "${step[$own]:-}" ] || echo "$file: has no step in t/check_house.sh"
	while read -r included; do
		[ "$included" = "$own" ] && continue
		[ "${step[$included]:-9}" -lt "${step[$own]:-0}" ] ||
		    echo "$file: includes $included, which is not below it"
	done < <(sed -n 's/^#include "lib\/\(.*\)\.h"$/\1/p' "$file")
	grep -Hn '^#include "' "$file" | grep -vE '"(lib/|sql\.h")'
done | rule "the shelf includes only what is below it"

for file in src/*.c; do
	own=$(basename "${file%.c}")
	grep -Hn '^#include "' "$file" | grep -vE "\"(lib/[a-z_]+|sql|${own%%_*})\.h\""
done | rule "no program includes another"

# A library's header, and who may include it.
while read -r header allowed; do
	grep -lF "#include <$header" "${sources[@]}" | grep -vE "^($allowed)$" |
	    sed "s|$|: includes <$header>|"
done <<'EOF' | rule "each library sits behind one file"
fcgiapp.h src/lib/serve.c
fcgi_stdio.h none
idn2.h src/lib/email.c
curl/ src/lib/(load|trust|upload|upstream).c
openssl/ src/lib/trust.c
json-c/ src/lib/jsonr.c
yaml.h src/lib/conf.c
jpeglib.h src/lib/image.c
jerror.h src/lib/image.c
turbojpeg.h none
spng.h src/lib/image.c
zlib.h src/lib/image.c
sqlite3.h src/lib/db_sqlite.c
seccomp.h src/lib/confine.c
linux/landlock.h src/lib/confine.c
gmime/ src/lib/form.c
glib none
nettle/ src/lib/link.c
sodium.h src/lib/(digest|jwk|page|tally|token).c
cjose/ src/lib/jwk.c
jansson.h none
EOF

banned='strto(l|ll|ul|ull|imax|umax)|ato(i|l|ll|f)|sprintf|vsprintf|strcpy|strcat|strncpy|strncat|gets|strtok|gmtime|localtime|ctime|asctime|mktime|strptime|sscanf|fscanf|scanf|s?rand|random|drand48|setlocale|system|popen|alloca|tmpnam|mktemp|strerror|getpwnam|getpwuid|gethostbyname|inet_ntoa|inet_addr|readdir_r|usleep|sleep|vfork|FCGI_[A-Za-z]+|FCGX_Accept|FCGX_FPrintF|json_tokener_parse|json_object_get_int|json_object_get_double|json_object_object_get|perror'
grep -nE "(^|[^A-Za-z0-9_])($banned)\(" "${sources[@]}" | rule "no banned function is called"

# A function is what stands between { and } in the first column.
awk -v most=70 '
	FNR == 1 { inside = 0 }
	/^{/ { inside = 1; start = FNR; next }
	/^}/ && inside { if (FNR - start - 1 > most)
		print FILENAME ":" start ": " FNR - start - 1 " lines"; inside = 0 }
' src/*.c src/lib/*.c t/*.c t/*.h t/fuzz/*.c bench/*.c | rule "no function has more than 70 lines"

for file in "${sources[@]}" t/*.[ch] t/fuzz/*.[ch] bench/*.c; do
	expand "$file" | awk -v file="$file" 'length > 100 { print file ":" FNR ": " length " columns" }'
done | rule "no line has more than 100 columns"

grep -nE '[[:space:]]+$' "${sources[@]}" t/*.c t/*.h t/*.sh t/e2e/*.py bench/*.[ch]* nginx/* docs/*.md \
    README.md HACKING.md Makefile.am configure.ac | rule "no line ends in white space"

for file in src/*.h src/lib/*.h; do
	[ "$(head -n 1 "$file")" = "/*" ] || echo "$file: does not open by saying what it is"
	guard="CAREDESK_$(basename "${file%.h}" | tr '[:lower:]' '[:upper:]')_H"
	[ "$(grep -c "^#\(ifndef\|define\) $guard$" "$file")" -eq 2 ] || echo "$file: guard is not $guard"
done | rule "every header says what it is, and has its guard"

for file in src/lib/*.c; do
	[ -f "t/check_$(basename "$file")" ] || echo "$file: has no t/check_$(basename "$file")"
done | rule "every noun of the shelf has its tests"

listed=$(sed -n 's/^program_PROGRAMS = //p' Makefile.am)
known=$(sed -n 's/^#define PROGRAMS[[:space:]]*//p' src/lib/programs.h | tr -d '",')
{
	[ "$listed" = "$known" ] || echo "Makefile.am has $listed; src/lib/programs.h has $known"
	for program in $listed; do
		for file in "src/$program.c" "docs/$program.md" "nginx/$program.server"; do
			[ -f "$file" ] || echo "$program: has no $file"
		done
	done
} | rule "a program is a source, a page and a template, and is on both lists"

# An event is a word in log_event() that is written out there, also where one of two is chosen.
events=$(grep -zohE '(log_event\([^";]*|"event\\":\\"", )"[a-z_]+"( : "[a-z_]+")?' src/*.c src/lib/*.c | tr -d '\0' |
    grep -oE '"[a-z_]+"' | tr -d '"' | sort -u)
explained=$(sed -n '/^## What the log says/,/^## /s/^| \(`[^|]*\)|.*/\1/p' docs/operations.md | grep -oE '[a-z_]+' | sort -u)
diff <(echo "$events") <(echo "$explained") | grep '^[<>]' |
    rule "docs/operations.md explains each event that the log can have, and no other"

if [ -x "${CAREDESK_BUILD:-build}/caredesk" ]; then
	"${CAREDESK_BUILD:-build}/caredesk" problems | diff docs/problems.md - |
	    rule "docs/problems.md is what caredesk problems prints"
else
	n=$((n + 1))
	echo "ok $n - docs/problems.md is what caredesk problems prints # SKIP not built"
fi

if format=$(command -v clang-format) && "$format" --version | grep -q 'version 14'; then
	for file in "${sources[@]}" t/*.[ch] t/fuzz/*.[ch] bench/*.c; do
		"$format" --style=file "$file" | cmp -s "$file" - || echo "$file: clang-format -i $file"
	done | rule "clang-format agrees"
else
	n=$((n + 1))
	echo "ok $n - clang-format agrees # SKIP there is no clang-format 14"
fi

echo "1..$n"
