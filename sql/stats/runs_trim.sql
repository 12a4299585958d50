-- $1 how many are kept
DELETE FROM runs WHERE id <= (SELECT max(id) FROM runs) - $1
