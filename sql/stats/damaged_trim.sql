-- $1 how many are kept
DELETE FROM damaged WHERE id <= (SELECT max(id) FROM damaged) - $1
