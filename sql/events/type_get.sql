-- $1 id, $2 now -> a type with the amount in force
SELECT t.id, t.name, t.currency, t.version,
	(SELECT amount_in_cents FROM prices WHERE type_id = t.id AND valid_from <= $2
	 ORDER BY valid_from DESC, id DESC LIMIT 1)
FROM types t
WHERE t.id = $1
