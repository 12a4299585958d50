-- $1 a month, $2 the last month wanted -> the first month after $1 that has events
SELECT month FROM sums WHERE month > $1 AND month <= $2
ORDER BY month LIMIT 1
