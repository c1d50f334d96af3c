-- users: tell who is in a stream on one hub, about: a HyperLogLog of its own, on lease.
-- KEYS 1 the hub's · ARGV 1 lease_ms · 2 'new' (begin again) or 'more' · then users
if ARGV[2] == 'new' then
  redis.call('DEL', KEYS[1])
end
local users = {}
for i = 3, #ARGV do
  users[#users + 1] = ARGV[i]
end
redis.call('PFADD', KEYS[1], unpack(users))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return #users
