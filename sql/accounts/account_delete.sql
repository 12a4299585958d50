-- $1 id
DELETE FROM accounts WHERE id = $1
