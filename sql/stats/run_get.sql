-- $1 id -> id, requested, begun_at, stopped, succeeded, failed, counted, took_us, p50_us, p90_us,
-- p99_us, max_us, ended_at
SELECT id, requested, begun_at, stopped, succeeded, failed, counted, took_us, p50_us, p90_us, p99_us,
	max_us, ended_at
FROM runs WHERE id = $1
