-- -> total, sum of the paths' counts, lines that were requests, number of paths, highest id
SELECT s.total, (SELECT coalesce(sum(count), 0) FROM paths),
	(SELECT coalesce(sum(lines - damaged), 0) FROM logs),
	(SELECT count(*) FROM paths), s.path_count
FROM state s
