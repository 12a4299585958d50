-- $1 key
DELETE FROM answers WHERE key = $1
