-- Whether a stored image is somebody's.
CREATE UNIQUE INDEX accounts_by_image ON accounts (image_key) WHERE image_key IS NOT NULL;
