-- $1 name -> id, digest
SELECT id, digest FROM audit_actors WHERE name = $1
