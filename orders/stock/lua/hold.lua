-- hold: mark holds as written, then decide a batch of buys of one offer, in order.
--
-- KEYS  o h k v u w (orders/stock/keys.py)
-- ARGV  1 MessagePack list of what is written now: order id, viewer, order id, viewer, …
--       2 MessagePack list of buys: viewer, qty, new order id, key field, viewer, …
--       3 the most unwritten holds allowed on the offer
-- Back  {'frozen'} when the state is missing or was made under another server run (R2), else
--       {'ok', epoch, left, unwritten, now_ms, then per buy a word, a rank and an id}. The words:
--       held, adopted (its own unwritten hold, under a new rank), replay (a row with this key is
--       known), park_own and park_stock (an unwritten hold of this viewer, or of anybody, may
--       still change the answer, R6), not_live, closed, not_open, limit_reached, sold_out; rank 0 and id '' where there is none
-- All is read and judged before the first write (R5); each key is read and written once a call.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local o = redis.call('HMGET', KEYS[1], 'run', 'epoch', 'status', 'live', 'opens', 'closes', 'left',
                     'rank', 'per_viewer', 'step')
if not o[9] or o[1] ~= run then return {'frozen'} end
local marks, buys = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])
local left, rank, per_viewer = tonumber(o[7]), tonumber(o[8]), tonumber(o[9])
local step = tonumber(o[10] or 1)      -- from one rank to the next: buckets share an offer's ranks
local unwritten_max, unwritten = tonumber(ARGV[3]), redis.call('ZCARD', KEYS[5])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local n_marks, n_buys = #marks / 2, #buys / 4

-- Marks first: they make final answers possible. `waits` is what `w` holds after them, by viewer.
-- Each list has its length beside it: `#` searches for it, and this runs for every buy.
local marked, viewers, fields, waits = {}, {}, {}, {}
for i = 1, n_marks do marked[i], viewers[i] = marks[2 * i - 1], marks[2 * i] end
for i = 1, n_buys do viewers[n_marks + i], fields[i] = buys[4 * i - 3], buys[4 * i] end
local back, nb = {'ok', tonumber(o[2]), left, unwritten, now}, 5
if n_marks + n_buys == 0 then return back end
local wait = redis.call('HMGET', KEYS[6], unpack(viewers))
for i = 1, n_marks + n_buys do waits[viewers[i]] = tonumber(wait[i] or 0) end
local touched = {}                     -- viewers whose `w` changed
if n_marks > 0 then
  local due = redis.call('ZMSCORE', KEYS[5], unpack(marked))
  local seen = {}
  for i = 1, n_marks do
    local id, viewer = marked[i], viewers[i]
    if due[i] and not seen[id] then
      seen[id], touched[viewer], waits[viewer] = true, true, waits[viewer] - 1
      unwritten = unwritten - 1
    end
  end
end

local shut                             -- why a buy with a new key is refused whatever the stock
if o[4] ~= '1' then shut = 'not_live'
elseif o[3] == 'closed' or (o[6] ~= '0' and now >= tonumber(o[6])) then shut = 'closed'
elseif o[3] == 'paused' or (o[3] == 'scheduled' and (o[5] == '0' or now < tonumber(o[5]))) then
  shut = 'not_open'
end

local h, nh, k, u, v, nk = {}, 0, {}, {}, {}, 0
local at = string.format('%d', now)
if n_buys > 0 then
  local bound = redis.call('HMGET', KEYS[3], unpack(fields))
  local have = redis.call('HMGET', KEYS[4], unpack(viewers, n_marks + 1))
  local live, fresh, gone = {}, {}, nil
  for i = 1, n_buys do live[viewers[n_marks + i]] = tonumber(have[i] or 0) end
  for i = 1, n_buys do
    local viewer, qty, id, field = buys[4 * i - 3], buys[4 * i - 2], buys[4 * i - 1], fields[i]
    local word, at_rank, known = shut, 0, bound[i]
    if known then
      if not gone then
        gone = {}
        for j = 1, n_marks do gone[marked[j]] = true end
      end
      id, word = known, 'replay'
      local record = not gone[id] and redis.call('ZSCORE', KEYS[5], id)
                     and redis.call('HGET', KEYS[2], id)
      if record then
        if fresh[id] or tonumber(string.match(record, '^%d+ (%d+) ')) ~= qty then
          word = 'park_own'            -- whether the key binds is not known yet
        else
          rank = rank + step
          word, at_rank, fresh[id] = 'adopted', rank, true
          h[nh + 1], h[nh + 2], nh = id, rank .. ' ' .. qty .. ' ' .. field, nh + 2
          -- Its age stays: who sends a key again and again would keep the keeper away for ever.
        end
      end
    elseif fresh[field] then
      word = 'park_own'                -- the same key, twice in this batch
    elseif not word then
      local had = live[viewer]
      if had + qty > per_viewer then
        word = waits[viewer] > 0 and 'park_own' or 'limit_reached'
      elseif left < qty then
        word = unwritten > 0 and 'park_stock' or 'sold_out'
      elseif unwritten >= unwritten_max then
        word = 'park_stock'
      else
        rank, left, unwritten = rank + step, left - qty, unwritten + 1
        live[viewer], waits[viewer] = had + qty, waits[viewer] + 1
        word, at_rank, touched[viewer], fresh[field] = 'held', rank, true, true
        h[nh + 1], h[nh + 2], nh = id, rank .. ' ' .. qty .. ' ' .. field, nh + 2
        k[nk + 1], k[nk + 2] = field, id
        u[nk + 1], u[nk + 2] = at, id
        v[nk + 1], v[nk + 2] = viewer, had + qty
        nk = nk + 2
      end
    end
    back[nb + 1], back[nb + 2], back[nb + 3], nb = word, at_rank, id, nb + 3
  end
end

if n_marks > 0 then redis.call('ZREM', KEYS[5], unpack(marked)) end
local w, nw, none, nn = {}, 0, {}, 0
for viewer in pairs(touched) do
  local n = waits[viewer]
  if n > 0 then w[nw + 1], w[nw + 2], nw = viewer, n, nw + 2 else nn = nn + 1; none[nn] = viewer end
end
if nw > 0 then redis.call('HSET', KEYS[6], unpack(w)) end
if nn > 0 then redis.call('HDEL', KEYS[6], unpack(none)) end
if nh > 0 then
  redis.call('HSET', KEYS[2], unpack(h))
  if nk > 0 then
    redis.call('ZADD', KEYS[5], unpack(u))
    redis.call('HSET', KEYS[3], unpack(k))
    redis.call('HSET', KEYS[4], unpack(v))
  end
  redis.call('HSET', KEYS[1], 'left', left, 'rank', rank)
end
back[3], back[4] = left, unwritten
return back
