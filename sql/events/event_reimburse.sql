-- $1 id, $2 reimbursed_at
UPDATE events SET reimbursed_at = $2 WHERE id = $1 AND reimbursed_at IS NULL
