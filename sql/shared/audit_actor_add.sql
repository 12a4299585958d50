-- $1 name, $2 salt, $3 digest -> id
INSERT INTO audit_actors (name, salt, digest) VALUES ($1, $2, $3) RETURNING id
