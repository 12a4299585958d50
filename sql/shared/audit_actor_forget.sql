-- $1 id
UPDATE audit_actors SET name = NULL, salt = NULL WHERE id = $1
