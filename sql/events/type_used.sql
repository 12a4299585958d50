-- $1 type_id -> a row if an event has it
SELECT 1 FROM events WHERE type_id = $1 LIMIT 1
