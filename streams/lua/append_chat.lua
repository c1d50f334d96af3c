-- append_chat: number chat events and append them; one that was said before is answered, not said
-- again, and only a message that is held can be removed (I7).
-- KEYS 1-4 meta main chat said · 5 the tag's tail
-- ARGV 1 fresh epoch · 2 ttl_ms · 3 chat_max · 4 tail_max · 5 stream id
--      then triples: dedupe field (c…: a message, r…: a removal) · payload · message id
-- returns per triple {cseq, payload in the log, 1 when new}; cseq 0: no such message to remove
local ttl_ms, chat_max, tail_max, stream = ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local epoch, _, cseq = open(1, ARGV[1], ttl_ms)
local answers = {}
for i = 6, #ARGV, 3 do
  local field, payload, message = ARGV[i], ARGV[i + 1], 'm' .. ARGV[i + 2]
  local removal = string.sub(field, 1, 1) == 'r'
  local held = redis.call('HGET', KEYS[4], field)
  local entry = held and redis.call('XRANGE', KEYS[3], held .. '-0', held .. '-0')[1]
  if entry then
    answers[#answers + 1] = {tonumber(held), entry[2][4], 0}
  elseif removal and redis.call('HEXISTS', KEYS[4], message) == 0 then
    answers[#answers + 1] = {0, '', 0}
  else
    cseq = cseq + 1
    local entry = {'k', field, 'd', payload}
    redis.call('HSET', KEYS[4], field, cseq)
    if not removal then
      entry[5], entry[6] = 'm', message
      redis.call('HSET', KEYS[4], message, cseq)
    end
    redis.call('XADD', KEYS[3], string.format('%d-0', cseq), unpack(entry))
    redis.call('XADD', KEYS[5], 'MAXLEN', '~', tail_max, '*',
      's', stream, 'e', epoch, 'c', cseq, 'd', payload)
    answers[#answers + 1] = {cseq, payload, 1}
  end
end
-- The map of what was said holds exactly what the stream holds, so one bound serves both.
local over = redis.call('XLEN', KEYS[3]) - chat_max
if over > 0 then
  for _, entry in ipairs(redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', over)) do
    redis.call('HDEL', KEYS[4], entry[2][2], entry[2][6] or entry[2][2])
  end
  redis.call('XTRIM', KEYS[3], 'MAXLEN', '=', chat_max)
end
redis.call('HSET', KEYS[1], 'cseq', cseq)
for k = 1, 5 do
  if k ~= 2 then redis.call('PEXPIRE', KEYS[k], ttl_ms) end
end
return answers
