-- $1 type_id, $2 the last id seen, $3 how many -> its prices in the order in which they were set
SELECT p.id, p.amount_in_cents, p.valid_from, p.created_at, t.currency
FROM prices p JOIN types t ON t.id = p.type_id
WHERE p.type_id = $1 AND p.id > $2
ORDER BY p.id LIMIT $3
