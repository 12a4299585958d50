-- $1 at, $2 who, $3 what, $4 subject, $5 detail or NULL
INSERT INTO audit (at, who, what, subject, detail) VALUES ($1, $2, $3, $4, $5)
