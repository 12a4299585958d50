-- Only the oldest are looked at: ids rise with time.
-- $1 older than, $2 how many to look at
DELETE FROM answers
WHERE id < (SELECT min(id) FROM answers) + $2 AND created_at < $1
