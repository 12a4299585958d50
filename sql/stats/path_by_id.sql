-- $1 id -> path
SELECT path FROM paths WHERE id = $1
