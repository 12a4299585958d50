-- $1 type_id, $2 an instant -> the latest one before it from which a price is in force that was set
-- for then or before
SELECT max(valid_from) FROM prices
WHERE type_id = $1 AND valid_from < $2 AND valid_from <= created_at
