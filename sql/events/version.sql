-- -> epoch, the last row of the audit: together the version of all there is
SELECT epoch, (SELECT coalesce(max(seq), 0) FROM audit) FROM origin
