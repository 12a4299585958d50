-- $1 an hour -> the oldest hour before it that has requests
SELECT hour FROM hours WHERE hour < $1 ORDER BY hour LIMIT 1
