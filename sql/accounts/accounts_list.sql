-- $1 the last id seen, $2 how many; for those who may see all -> accounts
SELECT id, version, created_at, updated_at, name, email, address, image_key
FROM accounts
WHERE id > $1
ORDER BY id LIMIT $2
