-- -> id, image_key of each account that has an image, in the order of keys
SELECT id, image_key FROM accounts WHERE image_key IS NOT NULL ORDER BY image_key
