-- release: give back holds that have no row, each by (id, rank), and only while it is unwritten.
--
-- KEYS  o h k v u w
-- ARGV  1 epoch under which they were held, 2 MessagePack list of [order id, rank at the most] (R1)
-- Back  {'frozen'} · {'epoch'} · {'ok', left, how many were released}
-- An id whose rank has moved on, or that is gone or written, is left as it is; so is its key where
-- that names another order by now, one that the waitlist got.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local o = redis.call('HMGET', KEYS[1], 'run', 'epoch')
if not o[2] or o[1] ~= run then return {'frozen'} end
if o[2] ~= ARGV[1] then return {'epoch'} end
local done, units = 0, 0
for _, named in ipairs(cmsgpack.unpack(ARGV[2])) do
  local id, rank = named[1], named[2]
  local record = redis.call('ZSCORE', KEYS[5], id) and redis.call('HGET', KEYS[2], id)
  if record then
    local at, qty, length, rest = string.match(record, '^(%d+) (%d+) (%d+):(.*)$')
    if tonumber(at) <= rank then
      local viewer = string.sub(rest, 1, tonumber(length))
      redis.call('HDEL', KEYS[2], id)
      local field = length .. ':' .. rest
      if redis.call('HGET', KEYS[3], field) == id then redis.call('HDEL', KEYS[3], field) end
      redis.call('ZREM', KEYS[5], id)
      if redis.call('HINCRBY', KEYS[4], viewer, -qty) <= 0 then
        redis.call('HDEL', KEYS[4], viewer)
      end
      if redis.call('HINCRBY', KEYS[6], viewer, -1) <= 0 then
        redis.call('HDEL', KEYS[6], viewer)
      end
      done, units = done + 1, units + qty
    end
  end
end
local left = redis.call('HINCRBY', KEYS[1], 'left', units)
return {'ok', left, done}
