-- $1 key -> digest, status, location, etag, body, created_at
SELECT digest, status, location, etag, body, created_at FROM answers WHERE key = $1
