UPDATE origin SET epoch = lower(hex(randomblob(8)))
