-- lend: set units of a bucket aside, for another one of its offer to get.
--
-- KEYS  o h k v u w
-- ARGV  1 id of the transfer, 2 how many are needed, 3 whether the borrower comes after this bucket
--       (0|1), 4 for how many ms units that came are not lent to such a one
-- Back  {'frozen'} · {'ok', epoch, units that were set aside, rank}
-- As much as is needed, or half of what is left if that is more and many are left: the next one in
-- need is not far. Of two buckets that are short, the earlier one keeps what it gathers: else each
-- takes from the other what it has not enough of, and nobody ever has.
-- What is set aside is an unwritten hold that no viewer has, named by the id (R4): a movement of the
-- ledger drops it together with the units, or it goes back as every hold that nothing came of (R1).
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local o = redis.call('HMGET', KEYS[1], 'run', 'epoch', 'left', 'rank', 'step', 'got')
if not o[4] or o[1] ~= run then return {'frozen'} end
local t = redis.call('TIME')
local now, left = t[1] * 1000 + math.floor(t[2] / 1000), tonumber(o[3])
local units = math.min(left, math.max(tonumber(ARGV[2]), left >= 100 and math.floor(left / 2) or 0))
if ARGV[3] == '1' and now - tonumber(o[6] or 0) < tonumber(ARGV[4]) then units = 0 end
if units < 1 or redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then
  return {'ok', tonumber(o[2]), 0, 0}
end
local rank = tonumber(o[4]) + tonumber(o[5] or 1)
redis.call('HSET', KEYS[2], ARGV[1], rank .. ' ' .. units .. ' 0:' .. ARGV[1])
redis.call('ZADD', KEYS[5], now, ARGV[1])
redis.call('HINCRBY', KEYS[4], '', units)
redis.call('HINCRBY', KEYS[6], '', 1)
redis.call('HSET', KEYS[1], 'left', left - units, 'rank', rank)
return {'ok', tonumber(o[2]), units, rank}
