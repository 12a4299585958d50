-- $1 id, $2 caregiver_ids as JSON, or NULL for all -> an event
SELECT e.id, e.type_id, e.caregiver_id, e.start_time, e.amount_in_cents, t.currency, e.created_at,
	e.reimbursed_at
FROM events e JOIN types t ON t.id = e.type_id
WHERE e.id = $1 AND ($2 IS NULL OR e.caregiver_id IN (SELECT value FROM json_each($2)))
