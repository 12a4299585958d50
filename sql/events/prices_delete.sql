-- $1 type_id
DELETE FROM prices WHERE type_id = $1
