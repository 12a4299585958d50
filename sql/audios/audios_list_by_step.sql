-- $1 the last id seen, $2 how many, filters or NULL: $3 session_id, $4 selected_tick, $5 step_count
-- -> audios
SELECT id, session_id, selected_tick, step_count, created_at, updated_at,
	tick_0, tick_1, tick_2, tick_3, tick_4, tick_5, tick_6, tick_7,
	tick_8, tick_9, tick_10, tick_11, tick_12, tick_13, tick_14
FROM audios
WHERE step_count = $5 AND id > $1
	AND ($3 IS NULL OR session_id = $3) AND ($4 IS NULL OR selected_tick = $4)
ORDER BY id LIMIT $2
