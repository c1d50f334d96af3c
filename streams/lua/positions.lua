-- positions: tell how far the logs of some streams of one tag are, and how far its tail is.
-- KEYS 1 the tag's tail · then per stream four: meta main chat said
-- ARGV 1 ttl_ms · then per stream a fresh epoch
-- returns {last id of the tail or '', {epoch, seq, cseq, fact_n, base_n} per stream}
local ttl_ms = ARGV[1]
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local answer = {newest and newest[1] or ''}
for i = 2, #ARGV do
  local k = 2 + (i - 2) * 4
  local epoch, seq, cseq, fact_n, base_n = open(k, ARGV[i], ttl_ms)
  redis.call('PEXPIRE', KEYS[k], ttl_ms) -- a stream that is watched keeps its epoch
  answer[i] = {epoch, seq, cseq, fact_n, base_n}
end
return answer
