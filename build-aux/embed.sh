#!/bin/sh
# Usage: embed.sh NAME FILE...
# Prints C that holds each file as a string: const struct embedded NAME[], ending with a NULL name.
set -eu
name=$1
shift
printf '/* Made by build-aux/embed.sh. */\n#include "lib/embedded.h"\n\n'
printf 'extern const struct embedded %s[];\nconst struct embedded %s[] = {\n' "$name" "$name"
for file; do
	printf '\t{ "%s",\n' "${file##*/}"
	# The hex escape of a tab would swallow digits behind it; \t and \\ and \" are all we need.
	sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/	/\\t/g' -e 's/^/\t"/' -e 's/$/\\n"/' "$file"
	printf '\t},\n'
done
printf '\t{ 0, 0 }\n};\n'
