-- recent: read the position of a stream's log and its newest entries, for a hub's memory.
-- KEYS 1-4 meta main chat said
-- ARGV 1 fresh epoch · 2 ttl_ms · 3 main count · 4 chat count
-- returns {epoch, seq, cseq, fact_n, base_n, main entries, chat entries}, newest first
local epoch, seq, cseq, fact_n, base_n = open(1, ARGV[1], ARGV[2])
return {epoch, seq, cseq, fact_n, base_n,
  redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', ARGV[3]),
  redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', ARGV[4])}
