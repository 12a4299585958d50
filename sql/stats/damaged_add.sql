-- $1 log_id, $2 position, $3 line
INSERT INTO damaged (log_id, position, line) VALUES ($1, $2, $3)
