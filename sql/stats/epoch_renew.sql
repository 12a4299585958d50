UPDATE state SET epoch = lower(hex(randomblob(8)))
