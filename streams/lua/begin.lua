-- begin: begin a new epoch, if the log is still in the one that is no longer believed (R9).
-- KEYS 1-4 meta main chat said
-- ARGV 1 fresh epoch · 2 ttl_ms · 3 epoch not believed
-- returns {epoch, seq, cseq, fact_n, base_n}
local epoch, seq, cseq, fact_n, base_n = open(1, ARGV[1], ARGV[2])
if epoch == ARGV[3] then
  epoch, seq, cseq, fact_n, base_n = begin(1, ARGV[1], ARGV[2])
end
return {epoch, seq, cseq, fact_n, base_n}
