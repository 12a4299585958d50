-- $1 path -> id, first hour, last hour
SELECT id, first_hour, last_hour FROM paths WHERE path = $1
