-- $1 id -> created_at of the account
SELECT created_at FROM erasures WHERE id = $1 AND finished_at IS NULL
