-- $1 type_id, $2 valid_from, $3 amount_in_cents, $4 created_at
INSERT INTO prices (type_id, valid_from, amount_in_cents, created_at) VALUES ($1, $2, $3, $4)
