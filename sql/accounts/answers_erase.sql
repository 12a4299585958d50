-- As answers_of_account.
-- $1 id of an account -> a row for each
DELETE FROM answers
WHERE location = '/accounts/' || $1
	OR CASE WHEN json_valid(CAST(body AS TEXT)) THEN json_extract(CAST(body AS TEXT), '$.id') END = $1
RETURNING id
