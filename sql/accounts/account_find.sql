-- $1 id -> version, created_at, updated_at, image_key
SELECT version, created_at, updated_at, image_key FROM accounts WHERE id = $1
