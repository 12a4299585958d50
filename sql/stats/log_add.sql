-- $1 head, $2 seen_at -> id
INSERT INTO logs (head, position, lines, damaged, seen_at) VALUES ($1, 0, 0, 0, $2)
RETURNING id
