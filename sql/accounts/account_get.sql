-- $1 id, $2 the email_digest that alone may be seen, or NULL for all -> an account
SELECT id, version, created_at, updated_at, name, email, address, image_key
FROM accounts
WHERE id = $1 AND ($2 IS NULL OR email_digest = $2)
