-- No row comes back where the session_id is taken.
-- $1 session_id, $2 selected_tick, $3 step_count, $4 created_at, $5 updated_at, $6 to $20 the ticks
-- -> id
INSERT INTO audios (session_id, selected_tick, step_count, created_at, updated_at,
	tick_0, tick_1, tick_2, tick_3, tick_4, tick_5, tick_6, tick_7,
	tick_8, tick_9, tick_10, tick_11, tick_12, tick_13, tick_14)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
ON CONFLICT (session_id) DO NOTHING
RETURNING id
