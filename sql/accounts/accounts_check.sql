-- -> id, name, email, address and their digests, of all accounts
SELECT id, name, email, address, name_digest, email_digest, address_digest FROM accounts ORDER BY id
