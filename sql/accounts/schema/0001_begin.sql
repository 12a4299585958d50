-- The data set of accounts: people's names, mail and postal addresses.  Times are microseconds since
-- 1970-01-01T00:00:00Z.  All of it is personal data: what is deleted is overwritten (secure_delete).

CREATE TABLE accounts (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	-- Each 0..4096 characters, none of them NUL.
	name TEXT NOT NULL CHECK (length(name) <= 4096),
	-- As src/lib/email.h folds it.
	email TEXT NOT NULL CHECK (length(email) <= 4096),
	address TEXT NOT NULL CHECK (length(address) <= 4096),
	-- What is looked for: 16 bytes of the text's BLAKE2b.  An index of the texts, which may have 16 KiB,
	-- would be as large as the table.
	name_digest BLOB NOT NULL CHECK (length(name_digest) = 16),
	email_digest BLOB NOT NULL UNIQUE CHECK (length(email_digest) = 16),
	address_digest BLOB NOT NULL CHECK (length(address_digest) = 16),
	-- Of the stored image; NULL where there is none.
	image_key TEXT,
	-- Counts the changes, for the ETag.
	version INTEGER NOT NULL,
	created_at INTEGER NOT NULL,
	updated_at INTEGER NOT NULL
) STRICT;

-- Lists are in the order of ids; an index is in that order, too, for each text.
CREATE INDEX accounts_by_name ON accounts (name_digest);

-- With the other column of a search by both: many may live at one address.
CREATE INDEX accounts_by_address ON accounts (address_digest, id, name_digest);

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
