-- $1 id -> an account
SELECT id, version, created_at, updated_at, name, email, address, image_key FROM accounts WHERE id = $1
