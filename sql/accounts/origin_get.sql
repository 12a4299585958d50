-- -> id
SELECT id FROM origin WHERE rowid = 1
