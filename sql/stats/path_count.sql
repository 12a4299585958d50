-- $1 path, $2 further requests, $3 first hour, $4 last hour
UPDATE paths SET count = count + $2, first_hour = min(first_hour, $3), last_hour = max(last_hour, $4)
WHERE path = $1
