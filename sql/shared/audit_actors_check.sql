-- $1 what is said of one that was erased -> id, name, salt, digest, whether it was erased
SELECT id, name, salt, digest, id IN (SELECT subject FROM audit WHERE what = $1)
FROM audit_actors ORDER BY id
