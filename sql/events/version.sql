-- -> epoch, the largest audit id: together the version of all there is
SELECT epoch, (SELECT coalesce(max(id), 0) FROM audit) FROM origin
