-- $1 first path, $2 behind the last path or NULL, $3 first hour, $4 behind the last hour
-- -> hour, requests, errors, took_ms, took_max_ms
SELECT h.hour, sum(h.count), sum(CASE WHEN h.status_class >= 4 THEN h.count ELSE 0 END),
	sum(h.took_ms), max(h.took_max_ms)
FROM hours h JOIN paths p ON p.id = h.path_id
WHERE h.hour >= $3 AND h.hour < $4 AND p.path >= $1 AND ($2 IS NULL OR p.path < $2)
GROUP BY h.hour ORDER BY h.hour
