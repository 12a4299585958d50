-- -> id, created_at of the account, erased_at, finished_at
SELECT id, created_at, erased_at, finished_at FROM erasures ORDER BY id, created_at
