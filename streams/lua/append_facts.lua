-- append_facts: number committed facts and append them, each once and in order (I7, R9).
-- KEYS 1-4 meta main chat said · 5 the tag's tail
-- ARGV 1 fresh epoch · 2 ttl_ms · 3 main_max · 4 tail_max · 5 stream id · 6 n of the first payload
--      7… payloads, of contiguous n
-- returns {highest n in the log, how many were appended}; a gap appends nothing
local ttl_ms, main_max, tail_max = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local stream, first = ARGV[5], tonumber(ARGV[6])
local epoch, seq, _, fact_n = open(1, ARGV[1], ttl_ms)
local last = first + #ARGV - 7
if fact_n >= 0 and (first > fact_n + 1 or last <= fact_n) then
  return {fact_n, 0}
end
if fact_n < 0 then
  -- What was committed before is in every snapshot that this epoch's newcomers are shown.
  fact_n = first - 1
  redis.call('HSET', KEYS[1], 'base_n', fact_n)
end
local appended = last - fact_n
for n = fact_n + 1, last do
  local payload = ARGV[7 + n - first]
  seq = seq + 1
  redis.call('XADD', KEYS[2], string.format('%d-0', seq), 'n', n, 'd', payload)
  redis.call('XADD', KEYS[5], 'MAXLEN', '~', tail_max, '*',
    's', stream, 'e', epoch, 'q', seq, 'n', n, 'd', payload)
end
redis.call('HSET', KEYS[1], 'seq', seq, 'fact_n', last)
redis.call('XTRIM', KEYS[2], 'MAXLEN', '=', main_max)
redis.call('PEXPIRE', KEYS[1], ttl_ms)
redis.call('PEXPIRE', KEYS[2], ttl_ms)
redis.call('PEXPIRE', KEYS[5], ttl_ms)
return {last, appended}
