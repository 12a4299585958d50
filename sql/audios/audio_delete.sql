-- $1 id
DELETE FROM audios WHERE id = $1
