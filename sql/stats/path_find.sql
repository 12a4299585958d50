-- $1 path -> id
SELECT id FROM paths WHERE path = $1
