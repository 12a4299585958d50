-- One more event not yet reimbursed, or several.
-- $1 month, $2 caregiver_id, $3 cents, $4 events
INSERT INTO sums (month, caregiver_id, reimbursed_cents, open_cents, reimbursed_events, open_events)
VALUES ($1, $2, 0, $3, 0, $4)
ON CONFLICT (month, caregiver_id) DO UPDATE
SET open_cents = open_cents + excluded.open_cents, open_events = open_events + excluded.open_events
