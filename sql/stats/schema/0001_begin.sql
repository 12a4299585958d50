-- Every path that was ever asked for.  Without rowid, so that a batch in the order of paths goes
-- through one tree from its beginning to its end.
CREATE TABLE paths (
	-- As it was sent, percent-decoded, without its query; not always UTF-8.
	path BLOB NOT NULL PRIMARY KEY,
	-- What hours call it; in the order of appearance.
	id INTEGER NOT NULL,
	-- Requests, ever.
	count INTEGER NOT NULL CHECK (count > 0),
	-- The hours in which it was asked for first and last.
	first_hour INTEGER NOT NULL,
	last_hour INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- From hours back to their paths; new paths come at its end.
CREATE UNIQUE INDEX paths_by_id ON paths (id);

-- Requests by hour, path, method and class of status; old hours may be removed, paths never are.
CREATE TABLE hours (
	-- Of Unix time.
	hour INTEGER NOT NULL,
	path_id INTEGER NOT NULL,
	-- As in lib/hit.h: 0 other, 1 GET, 2 HEAD, 3 POST, 4 PUT, 5 DELETE, 6 OPTIONS.
	method INTEGER NOT NULL CHECK (method BETWEEN 0 AND 6),
	-- The first digit of the status.
	status_class INTEGER NOT NULL CHECK (status_class BETWEEN 0 AND 9),
	count INTEGER NOT NULL CHECK (count > 0),
	-- Of bodies.
	bytes INTEGER NOT NULL,
	-- The sum of the times that they took, and the longest, in milliseconds.
	took_ms INTEGER NOT NULL,
	took_max_ms INTEGER NOT NULL,
	PRIMARY KEY (hour, path_id, method, status_class)
) STRICT, WITHOUT ROWID;

-- The files of the access log, known again by their first line whatever they are called.
CREATE TABLE logs (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	-- A digest of the first line, which has a time and a random number.
	head BLOB NOT NULL UNIQUE,
	-- Bytes that are taken in; changed with what they hold in one transaction.
	position INTEGER NOT NULL,
	-- Lines among them, and those that are none of ours.
	lines INTEGER NOT NULL,
	damaged INTEGER NOT NULL,
	-- When it was seen last.
	seen_at INTEGER NOT NULL
) STRICT;

-- Lines that are none of ours, the last thousand of them, for whoever looks into it.
CREATE TABLE damaged (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	-- In logs, whose rows are never removed.
	log_id INTEGER NOT NULL,
	-- Where it begins.
	position INTEGER NOT NULL,
	-- Its first 1,000 bytes.
	line BLOB NOT NULL
) STRICT;

-- What is known of all of it; one row.
CREATE TABLE state (
	id INTEGER PRIMARY KEY CHECK (id = 1),
	-- Requests, ever.
	total INTEGER NOT NULL,
	-- Paths, ever; the next one's id is one more.
	path_count INTEGER NOT NULL,
	-- Counts the transactions, for the ETag.
	version INTEGER NOT NULL,
	-- Hours before this one were removed.
	kept_from_hour INTEGER NOT NULL,
	-- Differs between any two databases.
	epoch TEXT NOT NULL
) STRICT;

INSERT INTO state VALUES (1, 0, 0, 0, 0, lower(hex(randomblob(8))));
