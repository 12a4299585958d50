-- As paths_list, by the requests of the hours from $6 up to $7
SELECT p.path, s.n, p.id
FROM (SELECT path_id, sum(count) AS n FROM hours WHERE hour >= $6 AND hour < $7 GROUP BY path_id) s
	JOIN paths p ON p.id = s.path_id
WHERE p.path >= $1 AND ($2 IS NULL OR p.path < $2)
	AND ($3 IS NULL OR s.n < $3 OR (s.n = $3 AND p.path > $4))
ORDER BY s.n DESC, p.path LIMIT $5
