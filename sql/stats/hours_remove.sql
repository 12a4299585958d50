-- $1 hour, $2 how many rows at most, more than a path has in an hour: those of its first paths
DELETE FROM hours WHERE hour = $1 AND path_id < ifnull(
	(SELECT path_id FROM hours WHERE hour = $1 ORDER BY path_id LIMIT 1 OFFSET $2),
	9223372036854775807)
