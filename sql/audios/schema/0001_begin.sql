-- The data set of audios: hearing-test sessions.  Times are microseconds since 1970-01-01T00:00:00Z.

CREATE TABLE audios (
	-- The order of creation; never used again.
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	-- The client's; free again once its row is deleted.
	session_id INTEGER NOT NULL UNIQUE CHECK (session_id >= 0),
	selected_tick INTEGER NOT NULL CHECK (selected_tick BETWEEN 0 AND 14),
	step_count INTEGER NOT NULL CHECK (step_count BETWEEN 0 AND 9),
	created_at INTEGER NOT NULL,
	-- Of the last PUT, or of the creation; rises with every change, so it tells versions apart.
	updated_at INTEGER NOT NULL CHECK (updated_at >= created_at),
	-- Numbers of -100..-10, exactly, in units of 10^-15: 17 digits.
	tick_0 INTEGER NOT NULL CHECK (tick_0 BETWEEN -100000000000000000 AND -10000000000000000),
	tick_1 INTEGER NOT NULL CHECK (tick_1 BETWEEN -100000000000000000 AND -10000000000000000),
	tick_2 INTEGER NOT NULL CHECK (tick_2 BETWEEN -100000000000000000 AND -10000000000000000),
	tick_3 INTEGER NOT NULL CHECK (tick_3 BETWEEN -100000000000000000 AND -10000000000000000),
	tick_4 INTEGER NOT NULL CHECK (tick_4 BETWEEN -100000000000000000 AND -10000000000000000),
	tick_5 INTEGER NOT NULL CHECK (tick_5 BETWEEN -100000000000000000 AND -10000000000000000),
	tick_6 INTEGER NOT NULL CHECK (tick_6 BETWEEN -100000000000000000 AND -10000000000000000),
	tick_7 INTEGER NOT NULL CHECK (tick_7 BETWEEN -100000000000000000 AND -10000000000000000),
	tick_8 INTEGER NOT NULL CHECK (tick_8 BETWEEN -100000000000000000 AND -10000000000000000),
	tick_9 INTEGER NOT NULL CHECK (tick_9 BETWEEN -100000000000000000 AND -10000000000000000),
	tick_10 INTEGER NOT NULL CHECK (tick_10 BETWEEN -100000000000000000 AND -10000000000000000),
	tick_11 INTEGER NOT NULL CHECK (tick_11 BETWEEN -100000000000000000 AND -10000000000000000),
	tick_12 INTEGER NOT NULL CHECK (tick_12 BETWEEN -100000000000000000 AND -10000000000000000),
	tick_13 INTEGER NOT NULL CHECK (tick_13 BETWEEN -100000000000000000 AND -10000000000000000),
	tick_14 INTEGER NOT NULL CHECK (tick_14 BETWEEN -100000000000000000 AND -10000000000000000)
) STRICT;

-- Lists are in the order of ids; each reads the index that narrows it most.
CREATE INDEX audios_by_step ON audios (step_count);
CREATE INDEX audios_by_tick ON audios (selected_tick);
CREATE INDEX audios_by_tick_and_step ON audios (selected_tick, step_count);

-- Answers given under an Idempotency-Key, for as long as a retry gets the same.
CREATE TABLE answers (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	-- The client's key.
	key TEXT NOT NULL UNIQUE,
	-- Of method, path and body (BLAKE2b, 32 bytes): the same key with another request is refused.
	digest BLOB NOT NULL,
	created_at INTEGER NOT NULL,
	status INTEGER NOT NULL,
	-- Header fields of the answer; '' where it had none.
	location TEXT NOT NULL,
	etag TEXT NOT NULL,
	body BLOB NOT NULL
) STRICT;
