-- apply: bring the gate up to a later movement of Postgres (R4, R7).
--
-- KEYS  o h k v u w
-- ARGV  1 epoch, 2 movement that the state stands at, 3 movement it stands at afterwards,
--       4 status, 5 live (0|1), 6 opens (ms, 0 none), 7 closes (ms, 0 none), 8 quantity,
--       9 MessagePack list of movements in order: [order id whose units come back or '', change
--       of `left`], or [order id that got units by waiting, change of `left`, its hold's record]
-- Back  {'frozen'} · {'epoch'} · {'moved', movement it stands at} · {'ok', left, unwritten}
-- An order id gives its units back once: removing it is what raises `left`. One that waited takes
-- them once, before they come back: what is handed over is never for sale (R12).
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local o = redis.call('HMGET', KEYS[1], 'run', 'epoch', 'mv', 'left')
if not o[4] or o[1] ~= run then return {'frozen'} end
if o[2] ~= ARGV[1] then return {'epoch'} end
if o[3] ~= ARGV[2] then return {'moved', tonumber(o[3])} end
local left, got = tonumber(o[4]), false
for _, movement in ipairs(cmsgpack.unpack(ARGV[9])) do
  local id, units = movement[1], movement[2]
  if id == '' then
    left, got = left + units, got or units > 0
  elseif movement[3] then
    if redis.call('HSETNX', KEYS[2], id, movement[3]) == 1 then
      local _, qty, length, rest = string.match(movement[3], '^(%d+) (%d+) (%d+):(.*)$')
      redis.call('HSET', KEYS[3], length .. ':' .. rest, id)
      redis.call('HINCRBY', KEYS[4], string.sub(rest, 1, tonumber(length)), qty)
      left = left - qty
    end
  else
    local record = redis.call('HGET', KEYS[2], id)
    if record then
      local _, qty, length, rest = string.match(record, '^(%d+) (%d+) (%d+):(.*)$')
      local viewer = string.sub(rest, 1, tonumber(length))
      redis.call('HDEL', KEYS[2], id)
      if redis.call('ZREM', KEYS[5], id) == 1 then
        if redis.call('HINCRBY', KEYS[6], viewer, -1) <= 0 then
          redis.call('HDEL', KEYS[6], viewer)
        end
      end
      if redis.call('HINCRBY', KEYS[4], viewer, -qty) <= 0 then
        redis.call('HDEL', KEYS[4], viewer)
      end
      left = left + qty
    end
  end
end
redis.call('HSET', KEYS[1], 'mv', ARGV[3], 'status', ARGV[4], 'live', ARGV[5], 'opens', ARGV[6],
           'closes', ARGV[7], 'quantity', ARGV[8], 'left', left)
if got then                            -- what came is first for whom it was fetched for (lend.lua)
  local t = redis.call('TIME')
  redis.call('HSET', KEYS[1], 'got', t[1] * 1000 + math.floor(t[2] / 1000))
end
if ARGV[4] == 'closed' then            -- Postgres answers for it once these are gone
  for i = 1, 6 do redis.call('EXPIRE', KEYS[i], 86400) end
end
return {'ok', left, redis.call('ZCARD', KEYS[5])}
