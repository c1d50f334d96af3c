-- tally: add to what a stream's buys came to, and tell it; without words it only tells.
-- KEYS 1 a hash, word -> total, and '+0' … '+15' -> 'second:orders admitted in it'
-- ARGV 1 ttl_ms · 2 orders that were admitted since the last call · then pairs: word · how many
-- returns the orders of the last ten full seconds, then word, total, word, total, …
-- The seconds are the server's own (R8), so that all hubs count in the same ones.
local second = tonumber(redis.call('TIME')[1])
for i = 3, #ARGV, 2 do
  redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])
end
if tonumber(ARGV[2]) > 0 then
  local slot = string.format('+%d', second % 16)
  local at, n = string.match(redis.call('HGET', KEYS[1], slot) or '', '^(%d+):(%d+)$')
  local before = tonumber(at) == second and tonumber(n) or 0
  redis.call('HSET', KEYS[1], slot, string.format('%.0f:%.0f', second, before + ARGV[2]))
end
if #ARGV > 2 or tonumber(ARGV[2]) > 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
local lately, told, all = 0, {}, redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if string.sub(all[i], 1, 1) == '+' then
    local at, n = string.match(all[i + 1], '^(%d+):(%d+)$')
    local age = second - tonumber(at)
    if age >= 1 and age <= 10 then
      lately = lately + tonumber(n)
    end
  else
    told[#told + 1] = all[i]
    told[#told + 1] = all[i + 1]
  end
end
table.insert(told, 1, lately)
return told
