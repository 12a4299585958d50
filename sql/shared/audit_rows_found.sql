-- The newest first.
-- $1 since, $2 until, $3 name of the actor or NULL, $4 subject or NULL, $5 pattern of what is said of
-- such subjects, $6 how many -> as audit_rows
SELECT seq, at, actor, name, what, subject, detail, chain, digest
FROM audit LEFT JOIN audit_actors ON audit_actors.id = audit.actor
WHERE at >= $1 AND at < $2 AND ($3 IS NULL OR name = $3)
	AND ($4 IS NULL OR (what GLOB $5 AND (
		(subject = $4 AND what NOT GLOB '* listed')
		OR (json_valid(detail) AND EXISTS (
			SELECT 1 FROM json_each(audit.detail, '$.ids') WHERE json_each.value = $4)))))
ORDER BY seq DESC LIMIT $6
