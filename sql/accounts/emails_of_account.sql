-- Of the account, and as answers that are kept show it (answers_of_account).
-- $1 id of an account -> email
SELECT email FROM accounts WHERE id = $1
UNION ALL
SELECT json_extract(CAST(body AS TEXT), '$.email')
FROM answers
WHERE json_valid(CAST(body AS TEXT)) AND json_type(CAST(body AS TEXT), '$.email') = 'text'
	AND (location = '/accounts/' || $1 OR json_extract(CAST(body AS TEXT), '$.id') = $1)
