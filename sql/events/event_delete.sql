-- $1 id
DELETE FROM events WHERE id = $1 AND reimbursed_at IS NULL
