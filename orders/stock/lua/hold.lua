-- hold: mark holds as written, then decide a batch of buys of one offer, in order.
--
-- KEYS  o h k v u w (orders/stock/keys.py)
-- ARGV  1 MessagePack list of order ids that are written now, 2 MessagePack list of buys, each
--       [viewer, qty, new order id, key field], 3 the most unwritten holds allowed on the offer
-- Back  {'frozen'} when the state is missing or was made under another server run (R2), else
--       {'ok', epoch, left, unwritten, now_ms, then per buy a word, a rank and an id}. The words:
--       held, adopted (its own unwritten hold, under a new rank), replay (a row with this key is
--       known), park_limit and park_stock (an unwritten hold may still change the answer, R6),
--       not_live, closed, not_open, limit_reached, sold_out; rank 0 and id '' where there is none
-- All is read and judged before the first write of a hold (R5).
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local o = redis.call('HMGET', KEYS[1], 'run', 'epoch', 'status', 'live', 'opens', 'closes', 'left',
                     'rank', 'per_viewer')
if not o[9] or o[1] ~= run then return {'frozen'} end
local marks, buys = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])
local left, rank, per_viewer = tonumber(o[7]), tonumber(o[8]), tonumber(o[9])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

for from = 1, #marks, 1000 do          -- first: marks make final answers possible
  local some = {unpack(marks, from, math.min(from + 999, #marks))}
  local due = redis.call('ZMSCORE', KEYS[5], unpack(some))
  local records = redis.call('HMGET', KEYS[2], unpack(some))
  local fewer = {}
  for i = 1, #some do
    if due[i] and records[i] then
      local viewer = cmsgpack.unpack(records[i])[3]
      fewer[viewer] = (fewer[viewer] or 0) + 1
    end
  end
  redis.call('ZREM', KEYS[5], unpack(some))
  for viewer, n in pairs(fewer) do
    if redis.call('HINCRBY', KEYS[6], viewer, -n) <= 0 then redis.call('HDEL', KEYS[6], viewer) end
  end
end
local unwritten = redis.call('ZCARD', KEYS[5])
local back = {'ok', tonumber(o[2]), left, unwritten, now}
if #buys == 0 then return back end

local shut                             -- why a buy with a new key is refused whatever the stock
if o[4] ~= '1' then shut = 'not_live'
elseif o[3] == 'closed' or (o[6] ~= '0' and now >= tonumber(o[6])) then shut = 'closed'
elseif o[3] == 'paused' or (o[3] == 'scheduled' and (o[5] == '0' or now < tonumber(o[5]))) then
  shut = 'not_open'
end

local viewers, fields, fresh = {}, {}, {}
for i = 1, #buys do viewers[i], fields[i] = buys[i][1], buys[i][4] end
local bound = redis.call('HMGET', KEYS[3], unpack(fields))
local have = redis.call('HMGET', KEYS[4], unpack(viewers))
local wait = redis.call('HMGET', KEYS[6], unpack(viewers))
local live, waits = {}, {}             -- by viewer, with what this batch takes
for i = 1, #buys do
  live[viewers[i]], waits[viewers[i]] = tonumber(have[i] or 0), tonumber(wait[i] or 0)
end

local h, k, u, touched = {}, {}, {}, {}
for i = 1, #buys do
  local viewer, qty, id, field = viewers[i], buys[i][2], buys[i][3], fields[i]
  local word, at_rank, known = shut, 0, bound[i]
  if known then
    id, word = known, 'replay'
    local record = redis.call('ZSCORE', KEYS[5], id) and redis.call('HGET', KEYS[2], id)
    if record then
      if fresh[id] or cmsgpack.unpack(record)[2] ~= qty then
        word = 'park_stock'            -- whether the key binds is not known yet
      else
        rank = rank + 1
        word, at_rank, fresh[id] = 'adopted', rank, true
        h[#h + 1] = id; h[#h + 1] = cmsgpack.pack({rank, qty, viewer, field})
        u[#u + 1] = now; u[#u + 1] = id
      end
    end
  elseif fresh[field] then
    word = 'park_stock'                -- the same key, twice in this batch
  elseif not word then
    if live[viewer] + qty > per_viewer then
      word = waits[viewer] > 0 and 'park_limit' or 'limit_reached'
    elseif left < qty then
      word = unwritten > 0 and 'park_stock' or 'sold_out'
    elseif unwritten >= tonumber(ARGV[3]) then
      word = 'park_stock'
    else
      rank, left, unwritten = rank + 1, left - qty, unwritten + 1
      live[viewer], waits[viewer] = live[viewer] + qty, waits[viewer] + 1
      word, at_rank, touched[viewer], fresh[field] = 'held', rank, true, true
      h[#h + 1] = id; h[#h + 1] = cmsgpack.pack({rank, qty, viewer, field})
      k[#k + 1] = field; k[#k + 1] = id
      u[#u + 1] = now; u[#u + 1] = id
    end
  end
  local n = #back
  back[n + 1], back[n + 2], back[n + 3] = word, at_rank, id
end
if #h > 0 then
  local v, w = {}, {}
  for viewer in pairs(touched) do
    v[#v + 1] = viewer; v[#v + 1] = live[viewer]
    w[#w + 1] = viewer; w[#w + 1] = waits[viewer]
  end
  redis.call('HSET', KEYS[2], unpack(h))
  redis.call('ZADD', KEYS[5], unpack(u))
  if #k > 0 then
    redis.call('HSET', KEYS[3], unpack(k))
    redis.call('HSET', KEYS[4], unpack(v))
    redis.call('HSET', KEYS[6], unpack(w))
  end
  redis.call('HSET', KEYS[1], 'left', left, 'rank', rank)
  back[3], back[4] = left, unwritten
end
return back
