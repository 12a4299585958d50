-- The data set of events and report.  Times are microseconds since 1970-01-01T00:00:00Z; amounts are
-- cents (öre); a month is year * 12 + month - 1.

-- What caregivers are paid for.
CREATE TABLE types (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	-- 1..200 characters, as people call it.
	name TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 200),
	-- ISO 4217; never changed.
	currency TEXT NOT NULL CHECK (currency = 'SEK'),
	-- Counts the changes of name and prices, for the ETag.
	version INTEGER NOT NULL
) STRICT;

-- What a type has been, is and will be paid: the amount in force at an instant is that of the
-- latest valid_from not after it, of the last row where several have the same.  Rows are only added.
CREATE TABLE prices (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	type_id INTEGER NOT NULL REFERENCES types (id),
	-- From this instant on; 0, before any event, in the first row of a type.
	valid_from INTEGER NOT NULL CHECK (valid_from >= 0),
	amount_in_cents INTEGER NOT NULL CHECK (amount_in_cents BETWEEN 0 AND 2147483647),
	-- When it was set.
	created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX prices_in_force ON prices (type_id, valid_from, id);

-- For the price history, in the order of ids.
CREATE INDEX prices_by_type ON prices (type_id);

-- One health-care event each; changed by its reimbursement only.
CREATE TABLE events (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	type_id INTEGER NOT NULL REFERENCES types (id),
	caregiver_id INTEGER NOT NULL CHECK (caregiver_id >= 1),
	-- When the care began: decides the price and the month.
	start_time INTEGER NOT NULL CHECK (start_time >= 0),
	-- The month of start_time in UTC, for the report.
	month INTEGER NOT NULL,
	-- The price in force at start_time, as it was when the event was registered.
	amount_in_cents INTEGER NOT NULL CHECK (amount_in_cents BETWEEN 0 AND 2147483647),
	created_at INTEGER NOT NULL,
	-- When accounting paid; NULL until then.
	reimbursed_at INTEGER
) STRICT;

-- Lists are in the order of ids; each reads the index that narrows it most, and looks at the rows for
-- the other filters.
CREATE INDEX events_by_type ON events (type_id, (reimbursed_at IS NOT NULL));
CREATE INDEX events_by_day ON events ((start_time / 86400000000));
CREATE INDEX events_by_reimbursed ON events ((reimbursed_at IS NOT NULL));

-- The lists of a caregiver, and all that the report needs of a month that its period cuts, in the
-- report's order.  Led by the month, so that new events fall on few pages.
CREATE INDEX events_by_month ON events
	(month, caregiver_id, id, start_time, amount_in_cents, reimbursed_at);

-- The sums of a month and caregiver, kept by the transaction that changes an event.  A row is there
-- only while it has events.
CREATE TABLE sums (
	month INTEGER NOT NULL,
	caregiver_id INTEGER NOT NULL,
	reimbursed_cents INTEGER NOT NULL CHECK (reimbursed_cents >= 0),
	open_cents INTEGER NOT NULL CHECK (open_cents >= 0),
	reimbursed_events INTEGER NOT NULL CHECK (reimbursed_events >= 0),
	open_events INTEGER NOT NULL CHECK (open_events >= 0),
	PRIMARY KEY (month, caregiver_id)
) STRICT, WITHOUT ROWID;

-- Who did what and when.  Rows are only added; the largest id is the version of the whole data set.
CREATE TABLE audit (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	at INTEGER NOT NULL,
	-- The subject of the token; anonymous without access control.
	who TEXT NOT NULL,
	-- A noun and a verb, such as 'event created'.
	what TEXT NOT NULL,
	-- The id of the event or type; 0 where it is none.
	subject INTEGER NOT NULL,
	-- What cannot be read from the subject itself any more: JSON, or NULL.
	detail TEXT
) STRICT;

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN
	SELECT RAISE(ABORT, 'the audit is append-only');
END;

CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
BEGIN
	SELECT RAISE(ABORT, 'the audit is append-only');
END;

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

-- One row: what tells this database from every other, one restored from a backup included.
CREATE TABLE origin (
	epoch TEXT NOT NULL
) STRICT;
INSERT INTO origin VALUES (lower(hex(randomblob(8))));
