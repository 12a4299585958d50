-- $1 id, $2 name
UPDATE types SET name = $2, version = version + 1 WHERE id = $1
