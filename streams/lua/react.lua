-- react: add reactions to a stream's totals; what a hub still knows survives a loss of memory.
-- KEYS 1 a hash, kind -> total
-- ARGV 1 ttl_ms · then triples: kind · total that this hub knows · how many to add
-- returns kind, total, kind, total, …
for i = 2, #ARGV, 3 do
  local held = tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or 0)
  local total = math.max(held, tonumber(ARGV[i + 1])) + tonumber(ARGV[i + 2])
  redis.call('HSET', KEYS[1], ARGV[i], string.format('%.0f', total))
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return redis.call('HGETALL', KEYS[1])
