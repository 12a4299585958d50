-- $1 email_digest -> id
SELECT id FROM accounts WHERE email_digest = $1
