-- Events that were not reimbursed go.
-- $1 month, $2 caregiver_id, $3 cents, $4 events
UPDATE sums SET open_cents = open_cents - $3, open_events = open_events - $4
WHERE month = $1 AND caregiver_id = $2
