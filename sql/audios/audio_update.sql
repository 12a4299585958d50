-- $1 id, $2 selected_tick, $3 step_count, $4 updated_at, $5 to $19 the ticks
UPDATE audios SET selected_tick = $2, step_count = $3, updated_at = $4,
	tick_0 = $5, tick_1 = $6, tick_2 = $7, tick_3 = $8, tick_4 = $9,
	tick_5 = $10, tick_6 = $11, tick_7 = $12, tick_8 = $13, tick_9 = $14,
	tick_10 = $15, tick_11 = $16, tick_12 = $17, tick_13 = $18, tick_14 = $19
WHERE id = $1
