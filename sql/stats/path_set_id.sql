-- $1 path, $2 id
UPDATE paths SET id = $2 WHERE path = $1
