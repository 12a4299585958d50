-- $1 first path, $2 behind the last path or NULL; $3 count and $4 path of the row behind which to
-- begin, or NULLs; $5 how many, -1 for all -> path, count, id, the largest count first
SELECT path, count, id FROM paths
WHERE path >= $1 AND ($2 IS NULL OR path < $2)
	AND ($3 IS NULL OR count < $3 OR (count = $3 AND path > $4))
ORDER BY count DESC, path LIMIT $5
