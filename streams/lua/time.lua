-- time: tell the time of the server that has a key; on a cluster TIME itself goes to any.
-- KEYS 1 a name in the slot of that server; nothing is there
-- returns {seconds, microseconds}
return redis.call('TIME')
