-- append_chat: number chat events and append them; one that was said before is answered, not said
-- again (I7).
-- KEYS 1-4 meta main chat said · 5 the tag's tail
-- ARGV 1 fresh epoch · 2 ttl_ms · 3 chat_max · 4 tail_max · 5 stream id
--      then pairs: dedupe field · payload
-- returns per pair {cseq, payload in the log, 1 when new}
local ttl_ms, chat_max, tail_max, stream = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local epoch, _, cseq = open(1, ARGV[1], ttl_ms)
local answers = {}
for i = 6, #ARGV, 2 do
  local field, payload = ARGV[i], ARGV[i + 1]
  local held = redis.call('HGET', KEYS[4], field)
  local entry = held and redis.call('XRANGE', KEYS[3], held .. '-0', held .. '-0')[1]
  if entry then
    answers[#answers + 1] = {tonumber(held), entry[2][4], 0}
  else
    cseq = cseq + 1
    redis.call('XADD', KEYS[3], string.format('%d-0', cseq), 'k', field, 'd', payload)
    redis.call('HSET', KEYS[4], field, cseq)
    redis.call('XADD', KEYS[5], 'MAXLEN', '~', tail_max, '*',
      's', stream, 'e', epoch, 'c', cseq, 'd', payload)
    answers[#answers + 1] = {cseq, payload, 1}
  end
end
-- The map of what was said holds exactly what the stream holds, so one bound serves both.
local over = redis.call('XLEN', KEYS[3]) - chat_max
if over > 0 then
  for _, entry in ipairs(redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', over)) do
    redis.call('HDEL', KEYS[4], entry[2][2])
  end
  redis.call('XTRIM', KEYS[3], 'MAXLEN', '=', chat_max)
end
redis.call('HSET', KEYS[1], 'cseq', cseq)
for k = 1, 5 do
  if k ~= 2 then redis.call('PEXPIRE', KEYS[k], ttl_ms) end
end
return answers
