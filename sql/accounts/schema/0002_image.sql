-- Of its bytes (BLAKE2b), so that damage is seen.
ALTER TABLE accounts ADD COLUMN image_digest BLOB CHECK (length(image_digest) = 32);

-- Whether a stored image is somebody's.
CREATE UNIQUE INDEX accounts_by_image ON accounts (image_key) WHERE image_key IS NOT NULL;

-- Which database this and its copies are: images are swept only by the one that they belong to.
CREATE TABLE origin (
	id BLOB NOT NULL CHECK (length(id) = 16)
) STRICT;
INSERT INTO origin (id) VALUES (randomblob(16));
