-- audience: who is in a stream on all hubs; changes nothing.
-- KEYS 1 the hash of the hubs' counts, hub id -> 'count:lease end in ms' (presence.lua); the
-- HyperLogLogs of their users (users.lua) have its name with ':users:' and the hub's id in place of
-- ':present', and so lie in the same slot · ARGV 1 that name without the hub's id
-- returns the connections whose hub's lease has not ended, and about how many users they are
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local sum, keys, leases = 0, {}, redis.call('HGETALL', KEYS[1])
for j = 1, #leases, 2 do
  local viewers, ends_ms = string.match(leases[j + 1], '^(%d+):(%d+)$')
  if viewers and tonumber(ends_ms) > now_ms then
    sum = sum + tonumber(viewers)
    keys[#keys + 1] = ARGV[1] .. leases[j]
  end
end
local users = 0
if #keys > 0 then
  users = redis.call('PFCOUNT', unpack(keys))
end
return {sum, users}
