-- $1 name, $2 email, $3 address, $4 to $6 their digests, $7 now -> id; no row if the email is taken
INSERT INTO accounts (name, email, address, name_digest, email_digest, address_digest, version,
	created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $7)
ON CONFLICT (email_digest) DO NOTHING
RETURNING id
