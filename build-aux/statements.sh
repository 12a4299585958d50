#!/bin/sh
# Usage: statements.sh h|c FOLDER
# Prints the header, or the source, of all statements and schemas below FOLDER: FOLDER/SET/NAME.sql
# becomes sql_SET_NAME, FOLDER/SET/schema/*.sql the list sql_SET_schema.
set -eu
kind=$1
top=$2
literal() {
	sed -e '/^--/d' -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/	/\\t/g' -e 's/^/\t"/' -e 's/$/\\n"/' "$1"
}
echo '/* Made by build-aux/statements.sh. */'
if [ "$kind" = h ]; then
	printf '#ifndef CAREDESK_SQL_H\n#define CAREDESK_SQL_H\n\n#include "lib/db.h"\n\n'
	printf '/* All of them; NULL at the end. */\nextern const struct db_sql *const sql_all[];\n\n'
else
	printf '#include "sql.h"\n\n'
fi
all=
for set in "$top"/*/; do
	set=${set%/}
	name=${set##*/}
	for file in "$set"/*.sql; do
		base=${file##*/}
		base=${base%.sql}
		all="$all &sql_${name}_$base,"
		if [ "$kind" = h ]; then
			echo "extern const struct db_sql sql_${name}_$base;"
		else
			printf 'const struct db_sql sql_%s_%s = {\n\t"%s/%s",\n' "$name" "$base" "$name" "$base"
			literal "$file"
			printf '};\n\n'
		fi
	done
	[ -d "$set/schema" ] || continue
	if [ "$kind" = h ]; then
		echo "extern const struct embedded sql_${name}_schema[];"
	else
		printf 'const struct embedded sql_%s_schema[] = {\n' "$name"
		for file in "$set"/schema/*.sql; do
			printf '\t{ "%s",\n' "${file##*/}"
			literal "$file"
			printf '\t},\n'
		done
		printf '\t{ 0, 0 },\n};\n\n'
	fi
done
if [ "$kind" = h ]; then
	printf '\n#endif\n'
else
	printf 'const struct db_sql *const sql_all[] = {%s 0 };\n' "$all"
fi
