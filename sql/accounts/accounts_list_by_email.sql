-- $1 the last id seen, $2 how many, digests: $3 name or NULL, $4 email, $5 address or NULL,
-- $6 the email_digest that alone may be seen, or NULL for all -> accounts
SELECT id, version, created_at, updated_at, name, email, address, image_key
FROM accounts
WHERE email_digest = $4 AND id > $1
	AND ($3 IS NULL OR name_digest = $3)
	AND ($5 IS NULL OR address_digest = $5)
	AND ($6 IS NULL OR email_digest = $6)
ORDER BY id LIMIT $2
