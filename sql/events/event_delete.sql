-- $1 id, $2 caregiver_ids as JSON, or NULL for all, $3 the earliest start_time -> id, if it went
DELETE FROM events
WHERE id = $1 AND reimbursed_at IS NULL AND start_time >= $3
	AND ($2 IS NULL OR caregiver_id IN (SELECT value FROM json_each($2)))
RETURNING id
