-- since: read everything after a position, or nothing at all (I7).
-- KEYS 1-4 meta main chat said
-- ARGV 1 fresh epoch · 2 ttl_ms · 3 epoch · 4 seq · 5 cseq
-- returns {epoch, seq, cseq, fact_n, base_n, main entries, chat entries}; the entries are left out
-- when not everything after that position is held
local epoch, seq, cseq, fact_n, base_n = open(1, ARGV[1], ARGV[2])
local head = {epoch, seq, cseq, fact_n, base_n}
local from_seq, from_cseq = tonumber(ARGV[4]), tonumber(ARGV[5])
if epoch ~= ARGV[3] or from_seq > seq or from_cseq > cseq then
  return head
end
local function after(key, from, to)
  if from == to then return {} end
  if redis.call('XLEN', key) < to - from then return nil end
  local entries = redis.call('XRANGE', key, string.format('%d-0', from + 1), '+')
  return #entries == to - from and entries or nil
end
local main = after(KEYS[2], from_seq, seq)
local chat = main and after(KEYS[3], from_cseq, cseq)
if chat then
  head[6], head[7] = main, chat
end
return head
