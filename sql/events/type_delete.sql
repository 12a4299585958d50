-- $1 id
DELETE FROM types WHERE id = $1
