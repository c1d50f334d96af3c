-- presence: renew one hub's leases on the viewer counts of some streams of one tag, and add up.
-- KEYS per stream: a hash, hub id -> 'count:lease end in ms'
-- ARGV 1 hub id · 2 lease_ms · 3 ttl_ms · then per stream this hub's count (0 gives the lease up)
-- returns per stream the sum over the leases that have not ended; ended ones are dropped. The time
-- is the server's own (R8): a hub whose clock is off neither outlives itself nor drops another.
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local sums = {}
for i, key in ipairs(KEYS) do
  local count = tonumber(ARGV[3 + i])
  if count > 0 then
    redis.call('HSET', key, ARGV[1],
      string.format('%d:%.0f', count, now_ms + tonumber(ARGV[2])))
    redis.call('PEXPIRE', key, ARGV[3])
  else
    redis.call('HDEL', key, ARGV[1])
  end
  local sum, leases = 0, redis.call('HGETALL', key)
  for j = 1, #leases, 2 do
    local viewers, ends_ms = string.match(leases[j + 1], '^(%d+):(%d+)$')
    if viewers and tonumber(ends_ms) > now_ms then
      sum = sum + tonumber(viewers)
    else
      redis.call('HDEL', key, leases[j])
    end
  end
  sums[i] = sum
end
return sums
