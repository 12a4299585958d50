-- $1 hour, $2 path_id, $3 method, $4 status_class, $5 count, $6 bytes, $7 took_ms, $8 took_max_ms
INSERT INTO hours (hour, path_id, method, status_class, count, bytes, took_ms, took_max_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (hour, path_id, method, status_class) DO UPDATE SET
	count = count + excluded.count, bytes = bytes + excluded.bytes,
	took_ms = took_ms + excluded.took_ms, took_max_ms = max(took_max_ms, excluded.took_max_ms)
