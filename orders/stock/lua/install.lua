-- install: put a staged rebuild in place of whatever is there, if that is of a lower epoch (R2).
--
-- KEYS  o h k v u w, then the staged h k v (missing when empty)
-- ARGV  1 epoch, 2 status, 3 live, 4 opens, 5 closes, 6 quantity, 7 left, 8 rank, 9 per_viewer,
--       10 movement, 11 to 13 how many fields the staged h, k and v must have,
--       14 from one rank to the next
-- Back  {'ok'} · {'older', epoch that stands} · {'stale'}: the stage is not whole, as after a
--       builder that paused for longer than it is kept
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local o = redis.call('HMGET', KEYS[1], 'run', 'epoch')
local stands = tonumber(o[2] or 0)
if stands >= tonumber(ARGV[1]) then return {'older', stands} end
for i = 2, 4 do
  if redis.call('HLEN', KEYS[i + 5]) ~= tonumber(ARGV[9 + i]) then return {'stale'} end
end
redis.call('DEL', KEYS[1], KEYS[5], KEYS[6])
for i = 2, 4 do
  redis.call('UNLINK', KEYS[i])
  if redis.call('EXISTS', KEYS[i + 5]) == 1 then
    redis.call('RENAME', KEYS[i + 5], KEYS[i])
    redis.call('PERSIST', KEYS[i])
  end
end
redis.call('HSET', KEYS[1], 'run', run, 'epoch', ARGV[1], 'status', ARGV[2], 'live', ARGV[3],
           'opens', ARGV[4], 'closes', ARGV[5], 'quantity', ARGV[6], 'left', ARGV[7], 'rank',
           ARGV[8], 'per_viewer', ARGV[9], 'mv', ARGV[10], 'step', ARGV[14])
return {'ok'}
