-- $1 seq, $2 at, $3 actor, $4 what, $5 subject, $6 detail or NULL, $7 chain
INSERT INTO audit (seq, at, actor, what, subject, detail, chain) VALUES ($1, $2, $3, $4, $5, $6, $7)
