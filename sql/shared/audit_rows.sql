-- $1 after, $2 how many -> seq, at, actor, name or NULL, what, subject, detail or NULL, chain, digest of
-- the actor or NULL
SELECT seq, at, actor, name, what, subject, detail, chain, digest
FROM audit LEFT JOIN audit_actors ON audit_actors.id = audit.actor
WHERE seq > $1 ORDER BY seq LIMIT $2
