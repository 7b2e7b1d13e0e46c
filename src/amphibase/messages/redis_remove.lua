-- Removes presences, of each its process, topic and id.
for i = 1, #ARGV, 3 do
    local process, topic, id = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    redis.call('HDEL', KEYS[1] .. 'presence:' .. topic, id)
    redis.call('SREM', KEYS[1] .. 'process:' .. process, topic .. ' ' .. id)
end
