-- $1 month, $2 caregiver_id
DELETE FROM sums
WHERE month = $1 AND caregiver_id = $2 AND open_events = 0 AND reimbursed_events = 0
