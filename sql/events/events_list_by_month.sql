-- $1 the last id seen, $2 how many, $3 caregiver_id, filters or NULL: $4 type_id, $5 reimbursed,
-- $6 min_time, $7 max_time, $8 the month -> events
SELECT e.id, e.type_id, e.caregiver_id, e.start_time, e.amount_in_cents, t.currency, e.created_at,
	e.reimbursed_at
FROM events e JOIN types t ON t.id = e.type_id
WHERE e.month = $8 AND e.caregiver_id = $3 AND e.id > $1
	AND ($4 IS NULL OR e.type_id = $4)
	AND ($5 IS NULL OR (e.reimbursed_at IS NOT NULL) = $5)
	AND ($6 IS NULL OR e.start_time > $6) AND ($7 IS NULL OR e.start_time < $7)
ORDER BY e.id LIMIT $2
