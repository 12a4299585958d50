-- -> id, image_key, image_digest of each account that has an image, in the order of keys
SELECT id, image_key, image_digest FROM accounts WHERE image_key IS NOT NULL ORDER BY image_key
