-- $1 name -> id
SELECT id FROM types WHERE name = $1
