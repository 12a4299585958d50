-- $1 the last id seen, $2 how many, filters or NULL: $3 caregiver_ids as JSON, $4 type_id, $5 reimbursed,
-- $6 min_time, $7 max_time -> events
SELECT e.id, e.type_id, e.caregiver_id, e.start_time, e.amount_in_cents, t.currency, e.created_at,
	e.reimbursed_at
FROM events e JOIN types t ON t.id = e.type_id
WHERE e.id > $1
	AND ($3 IS NULL OR e.caregiver_id IN (SELECT value FROM json_each($3)))
	AND ($4 IS NULL OR e.type_id = $4)
	AND ($5 IS NULL OR (e.reimbursed_at IS NOT NULL) = $5)
	AND ($6 IS NULL OR e.start_time > $6) AND ($7 IS NULL OR e.start_time < $7)
ORDER BY e.id LIMIT $2
