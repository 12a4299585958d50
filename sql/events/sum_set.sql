-- $1 month, $2 caregiver_id, $3 open cents, $4 reimbursed cents, $5 open events, $6 reimbursed events
INSERT INTO sums (month, caregiver_id, open_cents, reimbursed_cents, open_events, reimbursed_events)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (month, caregiver_id) DO UPDATE
SET open_cents = excluded.open_cents, reimbursed_cents = excluded.reimbursed_cents,
	open_events = excluded.open_events, reimbursed_events = excluded.reimbursed_events
