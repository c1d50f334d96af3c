-- stage: write a part of a rebuild aside; install.lua puts the whole in place (R2).
--
-- KEYS  o h k v u w, then the staged h k v
-- ARGV  1 how many seconds the stage is kept when nothing more comes,
--       2 to 4 MessagePack lists of field, value, field, value, … for h, k and v
-- Back  {'ok'}
for i = 2, 4 do
  local fields = cmsgpack.unpack(ARGV[i])
  if #fields > 0 then redis.call('HSET', KEYS[i + 5], unpack(fields)) end
end
for i = 7, 9 do redis.call('EXPIRE', KEYS[i], ARGV[1]) end
return {'ok'}
