-- $1 name, $2 email, $3 address, $4 to $6 their digests, $7 now, $8 id
UPDATE accounts
SET name = $1, email = $2, address = $3, name_digest = $4, email_digest = $5, address_digest = $6,
	version = version + 1, updated_at = $7
WHERE id = $8
