-- $1 hour, $2 path_id -> requests, errors, took_ms, took_max_ms; NULLs where there were none
SELECT sum(count), sum(CASE WHEN status_class >= 4 THEN count ELSE 0 END), sum(took_ms),
	max(took_max_ms)
FROM hours WHERE hour = $1 AND path_id = $2
