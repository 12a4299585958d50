-- $1 path, $2 id, $3 count, $4 first hour, $5 last hour
INSERT INTO paths (path, id, count, first_hour, last_hour) VALUES ($1, $2, $3, $4, $5)
