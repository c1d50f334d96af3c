-- recent: read the position of a stream's log and its newest entries, for a hub's memory.
-- KEYS 1-4 meta main chat said
-- ARGV 1 fresh epoch · 2 ttl_ms · 3 entries of each sequence · 4 bytes of their payloads
-- returns {epoch, seq, cseq, fact_n, base_n, main entries, chat entries}, newest first
local epoch, seq, cseq, fact_n, base_n = open(1, ARGV[1], ARGV[2])
local entries_max, bytes_max, page_max = tonumber(ARGV[3]), tonumber(ARGV[4]), 200
-- Page by page, so that a log of long entries is not read whole to be dropped.
local function newest(key)
  local entries, bytes, last = {}, 0, '+'
  while #entries < entries_max do
    local count = math.min(page_max, entries_max - #entries)
    local page = redis.call('XREVRANGE', key, last, '-', 'COUNT', count)
    for _, entry in ipairs(page) do
      bytes = bytes + #entry[2][4]
      if bytes > bytes_max then return entries end
      entries[#entries + 1] = entry
    end
    if #page < count then return entries end
    last = string.format('%d-0', tonumber(string.match(page[#page][1], '%d+')) - 1)
  end
  return entries
end
return {epoch, seq, cseq, fact_n, base_n, newest(KEYS[2]), newest(KEYS[3])}
