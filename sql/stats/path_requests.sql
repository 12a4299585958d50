-- $1 path -> requests
SELECT count FROM paths WHERE path = $1
