-- -> id, name
SELECT id, name FROM audit_actors WHERE name IS NOT NULL ORDER BY id
