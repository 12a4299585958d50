-- $1 now
UPDATE erasures SET finished_at = $1 WHERE finished_at IS NULL
