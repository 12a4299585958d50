-- $1 id, $2 stopped, $3 succeeded, $4 failed, $5 counted or NULL, $6 took_us, $7 p50_us, $8 p90_us,
-- $9 p99_us, $10 max_us, $11 ended_at
UPDATE runs SET stopped = $2, succeeded = $3, failed = $4, counted = $5, took_us = $6, p50_us = $7,
	p90_us = $8, p99_us = $9, max_us = $10, ended_at = $11
WHERE id = $1
