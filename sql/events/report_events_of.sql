-- The same of some caregivers only.
-- $1 month, $2 caregiver_ids as JSON, $3 min_time, $4 max_time
SELECT month, caregiver_id,
	sum(CASE WHEN reimbursed_at IS NULL THEN amount_in_cents ELSE 0 END),
	sum(CASE WHEN reimbursed_at IS NULL THEN 0 ELSE amount_in_cents END),
	sum(reimbursed_at IS NULL), sum(reimbursed_at IS NOT NULL)
FROM events
WHERE month = $1 AND caregiver_id IN (SELECT value FROM json_each($2))
	AND start_time > $3 AND start_time < $4
GROUP BY month, caregiver_id
ORDER BY month, caregiver_id
