-- $1 requests, $2 the number of paths now
UPDATE state SET total = total + $1, path_count = $2, version = version + 1
