-- draw: give ranks to viewers who join the waitlist, from the counter that holds are given theirs by.
--
-- KEYS  o h k v u w
-- ARGV  1 how many
-- Back  {'frozen'} · {'ok', epoch, the first of them, from one to the next}
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local o = redis.call('HMGET', KEYS[1], 'run', 'epoch', 'rank', 'step')
if not o[3] or o[1] ~= run then return {'frozen'} end
local step = tonumber(o[4] or 1)
local last = redis.call('HINCRBY', KEYS[1], 'rank', ARGV[1] * step)
return {'ok', tonumber(o[2]), last - (ARGV[1] - 1) * step, step}
