-- Records that a process is alive, and removes those that are not, with their presences; returns
-- whether it was taken to be alive, and all that are.
local process, lifetime = ARGV[1], tonumber(ARGV[2])
local processes = KEYS[1] .. 'processes'
local now = redis.call('TIME')[1]
local seen = redis.call('ZSCORE', processes, process)
local was_alive = seen and tonumber(seen) > now - lifetime
redis.call('ZADD', processes, now, process)
for _, ended in ipairs(redis.call('ZRANGEBYSCORE', processes, '-inf', now - lifetime)) do
    local own = KEYS[1] .. 'process:' .. ended
    for _, member in ipairs(redis.call('SMEMBERS', own)) do
        local topic, id = string.match(member, '^(%S+) (%S+)$')
        redis.call('HDEL', KEYS[1] .. 'presence:' .. topic, id)
    end
    redis.call('DEL', own)
    redis.call('ZREM', processes, ended)
end
return {was_alive and 1 or 0, unpack(redis.call('ZRANGE', processes, 0, -1))}
