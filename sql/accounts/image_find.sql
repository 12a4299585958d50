-- $1 image_key -> id of the account that points at it
SELECT id FROM accounts WHERE image_key = $1
