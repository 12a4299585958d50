-- Who was erased, without anything about the person: so that whoever restores an older backup can erase
-- the same accounts again.  A restore gives ids anew, so that an account is its id and its first instant.
CREATE TABLE erasures (
	id INTEGER NOT NULL,
	-- Of the account.
	created_at INTEGER NOT NULL,
	erased_at INTEGER NOT NULL,
	-- When nothing was left of it in any file; NULL before.
	finished_at INTEGER,
	PRIMARY KEY (id, created_at)
) STRICT, WITHOUT ROWID;
