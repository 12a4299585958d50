-- $1 a day, $2 the last day wanted -> the first day after $1 that has events
SELECT start_time / 86400000000 FROM events
WHERE start_time / 86400000000 > $1 AND start_time / 86400000000 <= $2
ORDER BY start_time / 86400000000 LIMIT 1
