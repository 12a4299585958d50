-- $1 the last id seen, $2 how many -> events
SELECT e.id, e.type_id, e.caregiver_id, e.start_time, e.amount_in_cents, t.currency, e.created_at,
	e.reimbursed_at
FROM events e JOIN types t ON t.id = e.type_id
WHERE e.id > $1
ORDER BY e.id LIMIT $2
