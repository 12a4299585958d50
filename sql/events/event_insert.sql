-- $1 type_id, $2 caregiver_id, $3 start_time, $4 month, $5 amount_in_cents, $6 created_at,
-- $7 reimbursed_at or NULL -> id
INSERT INTO events
	(type_id, caregiver_id, start_time, month, amount_in_cents, created_at, reimbursed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING id
