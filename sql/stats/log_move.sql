-- $1 id, $2 position, $3 further lines, $4 further damaged ones, $5 seen_at
UPDATE logs SET position = $2, lines = lines + $3, damaged = damaged + $4, seen_at = $5
WHERE id = $1
