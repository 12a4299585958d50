-- Load runs (POST /test/N): those of the last day, and at least the last thousand.
CREATE TABLE runs (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	requested INTEGER NOT NULL,
	begun_at INTEGER NOT NULL,
	-- Whether somebody stopped it; NULL, as all that follows, until it has ended.  One that has not,
	-- and is not under way, was interrupted.
	stopped INTEGER CHECK (stopped IN (0, 1)),
	-- Requests that were answered 200, and that were not.
	succeeded INTEGER,
	failed INTEGER,
	-- How much the statistics of its paths moved; NULL also where that could not be found out.
	counted INTEGER,
	-- In microseconds, of the whole and of a request.
	took_us INTEGER,
	p50_us INTEGER,
	p90_us INTEGER,
	p99_us INTEGER,
	max_us INTEGER,
	ended_at INTEGER
) STRICT;

-- Answers kept for a retry with the same Idempotency-Key, for a day.
CREATE TABLE answers (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
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
