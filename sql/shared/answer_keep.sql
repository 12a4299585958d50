-- $1 key, $2 digest, $3 created_at, $4 status, $5 location, $6 etag, $7 body -> id
INSERT INTO answers (key, digest, created_at, status, location, etag, body)
VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING id
