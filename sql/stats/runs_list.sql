-- $1 behind this id, $2 how many -> as run_get
SELECT id, requested, begun_at, stopped, succeeded, failed, counted, took_us, p50_us, p90_us, p99_us,
	max_us, ended_at
FROM runs WHERE id > $1 ORDER BY id LIMIT $2
