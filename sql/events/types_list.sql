-- $1 now, $2 the last id seen, $3 how many -> types
SELECT t.id, t.name, t.currency, t.version,
	(SELECT amount_in_cents FROM prices WHERE type_id = t.id AND valid_from <= $1
	 ORDER BY valid_from DESC, id DESC LIMIT 1)
FROM types t
WHERE t.id > $2
ORDER BY t.id LIMIT $3
