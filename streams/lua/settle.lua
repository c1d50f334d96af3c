-- settle: say which facts a newcomer's snapshot has, so that the next one appended follows it.
-- KEYS 1-4 meta main chat said
-- ARGV 1 fresh epoch · 2 ttl_ms · 3 epoch of the snapshot's position · 4 last fact in the snapshot
-- returns {epoch, seq, cseq, fact_n, base_n}. A snapshot whose last fact is below base_n misses
-- facts that the log has not got either: it must be read again
local epoch, seq, cseq, fact_n, base_n = open(1, ARGV[1], ARGV[2])
if epoch == ARGV[3] and fact_n < 0 then
  fact_n, base_n = tonumber(ARGV[4]), tonumber(ARGV[4])
  redis.call('HSET', KEYS[1], 'fact_n', fact_n, 'base_n', base_n)
end
return {epoch, seq, cseq, fact_n, base_n}
