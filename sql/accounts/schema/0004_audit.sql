-- Who did what and when.  Rows are only added, and each is chained to the one before (src/lib/audit.h).
CREATE TABLE audit (
	-- From 1, without a gap.
	seq INTEGER PRIMARY KEY CHECK (seq >= 1),
	at INTEGER NOT NULL,
	-- In audit_actors, of which none is ever removed.
	actor INTEGER NOT NULL,
	-- A noun and a verb, such as 'account read'.
	what TEXT NOT NULL,
	-- The id of what it was done to; 0 where it is none, or several.
	subject INTEGER NOT NULL,
	-- What cannot be read from the subject itself: JSON, or NULL.
	detail TEXT,
	-- BLAKE2b of the chain of the row before, of the other columns, and of the digest of its actor.
	chain BLOB NOT NULL CHECK (length(chain) = 32)
) STRICT;

-- A name may be personal data, and goes when the person is erased: NULL then, as its salt.  Its digest
-- stays, which the chain bears on.
CREATE TABLE audit_actors (
	id INTEGER PRIMARY KEY,
	-- The subject of the token; anonymous without access control, operator for commands.
	name TEXT UNIQUE,
	salt BLOB CHECK (length(salt) = 16),
	-- BLAKE2b of salt and name.
	digest BLOB NOT NULL CHECK (length(digest) = 32),
	CHECK ((name IS NULL) = (salt IS NULL))
) STRICT;

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN
	SELECT RAISE(ABORT, 'the audit is append-only');
END;

CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
BEGIN
	SELECT RAISE(ABORT, 'the audit is append-only');
END;

CREATE TRIGGER audit_actors_are_only_forgotten BEFORE UPDATE ON audit_actors
WHEN NEW.name IS NOT NULL OR NEW.id <> OLD.id OR NEW.digest <> OLD.digest
BEGIN
	SELECT RAISE(ABORT, 'the audit is append-only');
END;

CREATE TRIGGER audit_actors_are_not_deleted BEFORE DELETE ON audit_actors
BEGIN
	SELECT RAISE(ABORT, 'the audit is append-only');
END;
