-- -> session_id of each session of which something is out of its bounds
SELECT session_id FROM audios
WHERE session_id < 0 OR selected_tick NOT BETWEEN 0 AND 14 OR step_count NOT BETWEEN 0 AND 9
	OR updated_at < created_at
	OR min(tick_0, tick_1, tick_2, tick_3, tick_4, tick_5, tick_6, tick_7,
		tick_8, tick_9, tick_10, tick_11, tick_12, tick_13, tick_14) < -100000000000000000
	OR max(tick_0, tick_1, tick_2, tick_3, tick_4, tick_5, tick_6, tick_7,
		tick_8, tick_9, tick_10, tick_11, tick_12, tick_13, tick_14) > -10000000000000000
ORDER BY id
