-- -> number of sessions
SELECT count(*) FROM audios
