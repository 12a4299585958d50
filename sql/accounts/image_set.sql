-- $1 image_key, $2 now, $3 id
UPDATE accounts SET image_key = $1, version = version + 1, updated_at = $2 WHERE id = $3
