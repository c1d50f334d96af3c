-- probe: tell how the gate of one offer stands, and name its oldest unwritten holds.
--
-- KEYS  o h k v u w
-- ARGV  1 age in ms from which an unwritten hold is named, 2 how many are named at the most
-- Back  {'frozen', epoch or 0} · {'ok', epoch, movement, left, unwritten, age of the oldest in ms,
--       then each named hold: id, rank}
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local o = redis.call('HMGET', KEYS[1], 'run', 'epoch', 'mv', 'left')
if not o[4] or o[1] ~= run then return {'frozen', tonumber(o[2] or 0)} end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local oldest = redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')
local age = oldest[2] and now - tonumber(oldest[2]) or 0
local back = {'ok', tonumber(o[2]), tonumber(o[3]), tonumber(o[4]), redis.call('ZCARD', KEYS[5]),
              age}
if age >= tonumber(ARGV[1]) then
  local due = redis.call('ZRANGE', KEYS[5], '-inf', now - tonumber(ARGV[1]), 'BYSCORE', 'LIMIT', 0,
                         tonumber(ARGV[2]))
  for _, id in ipairs(due) do
    local record = redis.call('HGET', KEYS[2], id)
    back[#back + 1] = id
    back[#back + 1] = record and tonumber(string.match(record, '^%d+')) or 0
  end
end
return back
