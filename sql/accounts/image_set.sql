-- $1 image_key, $2 image_digest, $3 now, $4 id
UPDATE accounts SET image_key = $1, image_digest = $2, version = version + 1, updated_at = $3 WHERE id = $4
