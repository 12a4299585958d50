-- $1 type_id -> its prices, the newest first
SELECT p.amount_in_cents, t.currency, p.valid_from, p.created_at
FROM prices p JOIN types t ON t.id = p.type_id
WHERE p.type_id = $1
ORDER BY p.valid_from DESC, p.id DESC
