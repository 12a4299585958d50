-- $1 type_id, $2 instant -> when the next price after it begins
SELECT valid_from FROM prices WHERE type_id = $1 AND valid_from > $2
ORDER BY valid_from LIMIT 1
