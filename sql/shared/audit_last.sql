-- -> seq, chain
SELECT seq, chain FROM audit ORDER BY seq DESC LIMIT 1
