-- The stored answers that show an account: by the account in the body, or by what was created.
-- $1 id of an account -> id, created_at, status, location, etag, body; created_at of the account as the
-- body has it, or NULL
SELECT id, created_at, status, location, etag, body,
	CASE WHEN json_valid(CAST(body AS TEXT)) THEN json_extract(CAST(body AS TEXT), '$.created_at') END
FROM answers
WHERE location = '/accounts/' || $1
	OR CASE WHEN json_valid(CAST(body AS TEXT)) THEN json_extract(CAST(body AS TEXT), '$.id') END = $1
ORDER BY id
