-- $1 the first hour that is kept from now on
UPDATE state SET kept_from_hour = $1, version = version + 1
