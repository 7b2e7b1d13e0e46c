-- Returns the processes that are alive, and the presences of a topic: all, or those of some ids.
local topic, lifetime = ARGV[1], tonumber(ARGV[2])
local now = redis.call('TIME')[1]
local room = KEYS[1] .. 'presence:' .. topic
local result = {redis.call('ZRANGEBYSCORE', KEYS[1] .. 'processes', '(' .. now - lifetime, '+inf')}
if #ARGV == 2 then
    local fields = redis.call('HGETALL', room)
    for i = 1, #fields do
        result[#result + 1] = fields[i]
    end
end
for i = 3, #ARGV do
    local value = redis.call('HGET', room, ARGV[i])
    if value then
        result[#result + 1] = ARGV[i]
        result[#result + 1] = value
    end
end
return result
