-- $1 first month, $2 caregiver_id in it to begin with, $3 last month
-- -> month, caregiver_id, open cents, reimbursed cents, open events, reimbursed events
SELECT month, caregiver_id, open_cents, reimbursed_cents, open_events, reimbursed_events
FROM sums
WHERE (month, caregiver_id) >= ($1, $2) AND month <= $3
ORDER BY month, caregiver_id
