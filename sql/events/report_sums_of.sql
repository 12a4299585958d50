-- Those of some caregivers only: a look for each of them in each month that has events.
-- $1 first month, $2 caregiver_ids as JSON, $3 last month
WITH RECURSIVE months(month) AS (
	SELECT min(month) FROM sums WHERE month >= $1
	UNION ALL
	SELECT (SELECT min(month) FROM sums WHERE month > months.month) FROM months
	WHERE months.month < $3
)
SELECT s.month, s.caregiver_id, s.open_cents, s.reimbursed_cents, s.open_events,
	s.reimbursed_events
FROM months m CROSS JOIN sums s
WHERE s.month = m.month AND s.month <= $3
	AND s.caregiver_id IN (SELECT value FROM json_each($2))
ORDER BY s.month, s.caregiver_id
