-- Adds a presence, or replaces its payload; 0 where the topic is full.
local id, topic, process, user_id, payload, most = unpack(ARGV)
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local room = KEYS[1] .. 'presence:' .. topic
local before = redis.call('HGET', room, id)
if not before and redis.call('HLEN', room) >= tonumber(most) then
    return 0
end
local joined = before and string.match(before, '^%S+') or string.format('%.6f', now)
redis.call('ZADD', KEYS[1] .. 'processes', 'NX', now, process)
redis.call('HSET', room, id, table.concat({joined, process, user_id, payload}, ' '))
redis.call('SADD', KEYS[1] .. 'process:' .. process, topic .. ' ' .. id)
return 1
