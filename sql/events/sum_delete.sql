-- $1 month, $2 caregiver_id
DELETE FROM sums WHERE month = $1 AND caregiver_id = $2
