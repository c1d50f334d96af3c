-- inspect: read what the gate has of these orders, keys and viewers, all at one moment; writes nothing.
--
-- KEYS  o h k v u w
-- ARGV  1 MessagePack list of order ids, 2 of key fields, 3 of viewers,
--       4 up to how many unwritten holds all of them are named (0: none)
-- Back  {'frozen', epoch or 0} · {'ok', fields of `o`, sizes of h k v u, per id its record, per id
--       the time of its unwritten hold, per field its id, per viewer his units, per viewer how many
--       of his holds are unwritten}, and when the unwritten ones are named: {ids}, {records},
--       {viewer, number, viewer, …}. What is not there is nil.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local o = redis.call('HMGET', KEYS[1], 'run', 'epoch', 'status', 'live', 'opens', 'closes',
                     'quantity', 'left', 'rank', 'per_viewer', 'mv')
for i = 1, 11 do
  if not o[i] or o[1] ~= run then return {'frozen', tonumber(o[2] or 0)} end
end
local ids, fields, viewers = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2]),
                             cmsgpack.unpack(ARGV[3])

local function read(command, key, names)
  if #names == 0 then return {} end
  return redis.call(command, key, unpack(names))
end

local unwritten = redis.call('ZCARD', KEYS[5])
local back = {
  'ok', o, {redis.call('HLEN', KEYS[2]), redis.call('HLEN', KEYS[3]), redis.call('HLEN', KEYS[4]),
            unwritten},
  read('HMGET', KEYS[2], ids), read('ZMSCORE', KEYS[5], ids), read('HMGET', KEYS[3], fields),
  read('HMGET', KEYS[4], viewers), read('HMGET', KEYS[6], viewers),
}
if unwritten <= tonumber(ARGV[4]) and redis.call('HLEN', KEYS[6]) <= tonumber(ARGV[4]) then
  local named = redis.call('ZRANGE', KEYS[5], 0, -1)
  back[9], back[10] = named, read('HMGET', KEYS[2], named)
  back[11] = redis.call('HGETALL', KEYS[6])
end
return back
