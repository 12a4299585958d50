-- $1 head -> id, position, seen_at
SELECT id, position, seen_at FROM logs WHERE head = $1
