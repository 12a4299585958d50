-- -> total, path_count, version, kept_from_hour, epoch
SELECT total, path_count, version, kept_from_hour, epoch FROM state
