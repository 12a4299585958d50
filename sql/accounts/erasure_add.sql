-- $1 id, $2 created_at of the account, $3 erased_at, $4 finished_at or NULL
INSERT INTO erasures (id, created_at, erased_at, finished_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (id, created_at) DO UPDATE SET erased_at = $3, finished_at = $4
