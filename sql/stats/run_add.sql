-- $1 requested, $2 begun_at -> id
INSERT INTO runs (requested, begun_at) VALUES ($1, $2) RETURNING id
