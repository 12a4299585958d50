-- $1 name, $2 currency -> id
INSERT INTO types (name, currency, version) VALUES ($1, $2, 1)
ON CONFLICT (name) DO NOTHING
RETURNING id
