-- $1 head -> id, position
SELECT id, position FROM logs WHERE head = $1
