-- $1 session_id -> audio
SELECT id, session_id, selected_tick, step_count, created_at, updated_at,
	tick_0, tick_1, tick_2, tick_3, tick_4, tick_5, tick_6, tick_7,
	tick_8, tick_9, tick_10, tick_11, tick_12, tick_13, tick_14
FROM audios
WHERE session_id = $1
