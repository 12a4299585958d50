-- $1 type_id, $2 instant -> amount_in_cents, currency, valid_from
SELECT p.amount_in_cents, t.currency, p.valid_from FROM prices p JOIN types t ON t.id = p.type_id
WHERE p.type_id = $1 AND p.valid_from <= $2
ORDER BY p.valid_from DESC, p.id DESC LIMIT 1
