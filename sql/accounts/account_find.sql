-- $1 id -> version, created_at, updated_at
SELECT version, created_at, updated_at FROM accounts WHERE id = $1
