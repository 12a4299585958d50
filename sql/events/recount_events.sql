-- What sums ought to hold, from the events themselves, in the order of sums; and the first and the
-- last start_time among them.
SELECT month, caregiver_id,
	sum(CASE WHEN reimbursed_at IS NULL THEN amount_in_cents ELSE 0 END),
	sum(CASE WHEN reimbursed_at IS NULL THEN 0 ELSE amount_in_cents END),
	sum(reimbursed_at IS NULL), sum(reimbursed_at IS NOT NULL),
	min(start_time), max(start_time)
FROM events
GROUP BY month, caregiver_id
ORDER BY month, caregiver_id
