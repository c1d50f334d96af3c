-- epoch: put before every script of the log. Rules R2 and R9: a stream's numbers are believed only
-- on the server run under which they were given; else a new epoch begins here, in one step with
-- what the script then does.
--
-- open(k, fresh, ttl_ms) -> epoch, seq, cseq, fact_n, base_n
--   k      first index in KEYS of the stream's keys: meta, main, chat, said
--   fresh  the epoch to begin when there is none to go on with
--   fact_n the last fact in the log, -1: not known yet; base_n: the fact before the log's first
local RUN = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')

local function begin(k, fresh, ttl_ms)
  redis.call('DEL', KEYS[k], KEYS[k + 1], KEYS[k + 2], KEYS[k + 3])
  redis.call('HSET', KEYS[k], 'run', RUN, 'epoch', fresh, 'seq', 0, 'cseq', 0,
    'fact_n', -1, 'base_n', -1)
  redis.call('PEXPIRE', KEYS[k], ttl_ms)
  return fresh, 0, 0, -1, -1
end

local function open(k, fresh, ttl_ms)
  local m = redis.call('HMGET', KEYS[k], 'run', 'epoch', 'seq', 'cseq', 'fact_n', 'base_n')
  if m[1] ~= RUN or not m[2] then
    return begin(k, fresh, ttl_ms)
  end
  return m[2], tonumber(m[3]), tonumber(m[4]), tonumber(m[5]), tonumber(m[6])
end

