-- $1 how many are kept, $2 those that began from then on are kept, too
DELETE FROM runs WHERE id <= (SELECT max(id) FROM runs) - $1 AND begun_at < $2
