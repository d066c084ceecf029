"""What has to be done at once in Redis, as Lua that runs there.

The keys of a topic share a hash tag, so that they are on one machine of a cluster.
"""

from __future__ import annotations

import typing as t

#: For how long the position of a topic is remembered after its last publication has
#: expired, in seconds. Processes with subscribers renew that.
GRACE = 7200

# Positions mean nothing any more if Redis may have lost some that were given: after a
# restart or a failover, which show in the run id, or if it has forgotten the topic.
# Then a new epoch begins.
#
# The first command of a script that writes is one that Redis refuses when its memory is
# full. After any other it would let the rest of the script pass.
_EPOCH = """
local meta, stream = KEYS[1], KEYS[2]
local run_id, new_epoch, lifetime = ARGV[1], ARGV[2], ARGV[3]
local known = redis.call('HMGET', meta, 'epoch', 'run_id', 'offset')
local epoch, offset = known[1], tonumber(known[3] or 0)
if not epoch or known[2] ~= run_id then
    epoch, offset = new_epoch, 0
    redis.call('HSET', meta, 'epoch', epoch, 'run_id', run_id, 'offset', 0)
    redis.call('DEL', stream)
end
"""

# KEYS: meta, stream.
# ARGV: run id, new epoch, seconds to remember, channel, size and seconds of the
# history, the head, the sender, the payload.
PUBLISH = (
    _EPOCH
    + """
local channel, size, ttl = ARGV[4], ARGV[5], ARGV[6]
offset = redis.call('HINCRBY', meta, 'offset', 1)
redis.call('EXPIRE', meta, lifetime)
local place = epoch .. '-' .. string.format('%.0f', offset)
local message = ARGV[7] .. string.char(#place) .. ARGV[8] .. place .. ARGV[9]
local now = redis.call('TIME')[1]
redis.call('XADD', stream, 'MAXLEN', size, offset .. '-1', 't', now, 'm', message)
redis.call('EXPIRE', stream, ttl)
redis.call('PUBLISH', channel, message)
return offset
"""
)

# KEYS: meta, stream.
# ARGV: run id, new epoch, seconds to remember, seconds of the history, the epoch and
# the offset to read from, how many to read if that isn't possible.
READ = (
    _EPOCH
    + """
redis.call('EXPIRE', meta, lifetime)
local oldest = redis.call('TIME')[1] - ARGV[4]
local entries = {}
local function keep(entry)
    if tonumber(entry[2][2]) > oldest then
        entries[#entries + 1] = entry[2][4]
    end
end
local missed = offset - tonumber(ARGV[6])
if ARGV[5] == epoch and missed >= 0 then
    if missed > 0 then
        local from = '(' .. ARGV[6] .. '-1'
        for _, entry in ipairs(redis.call('XRANGE', stream, from, '+')) do
            keep(entry)
        end
    end
    if #entries == missed then
        return {epoch, offset, 1, entries}
    end
    entries = {}
end
local limit = tonumber(ARGV[7])
if limit > 0 then
    local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', limit)
    for i = #newest, 1, -1 do
        keep(newest[i])
    end
end
return {epoch, offset, 0, entries}
"""
)

# KEYS: the order of the members, their infos, the sockets of the member, a counter.
# ARGV: member, socket, info, seconds after which all that is forgotten.
JOIN = """
local order, infos, sockets, counter = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local number = redis.call('INCR', counter)
local is_new = redis.call('EXISTS', sockets) == 0
redis.call('ZADD', sockets, number, ARGV[2])
redis.call('HSET', infos, ARGV[2], ARGV[3])
if is_new then
    redis.call('ZADD', order, number, ARGV[1])
end
for _, key in ipairs(KEYS) do
    redis.call('EXPIRE', key, ARGV[4])
end
return is_new and 1 or 0
"""

# KEYS: the first three of JOIN. ARGV: member, socket. Returns the info that the socket
# has brought, if it was the last one of the member.
LEAVE = """
local order, infos, sockets = KEYS[1], KEYS[2], KEYS[3]
if redis.call('ZREM', sockets, ARGV[2]) == 0 then
    return false
end
local info = redis.call('HGET', infos, ARGV[2])
redis.call('HDEL', infos, ARGV[2])
if redis.call('EXISTS', sockets) == 1 then
    return false
end
redis.call('ZREM', order, ARGV[1])
return info or 'null'
"""

# KEYS: the order of the members, their infos. ARGV: how many to list, what the keys
# of the members' sockets begin with.
MEMBERS = """
local found = {}
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1)) do
    local newest = redis.call('ZRANGE', ARGV[2] .. member, -1, -1)[1]
    if newest then
        found[#found + 1] = member
        found[#found + 1] = redis.call('HGET', KEYS[2], newest) or 'null'
    end
end
return found
"""

# A process counts as dead if it was silent for a while, was seen to be so, and has
# stayed silent since then. So nobody is taken for dead only because Redis was away.
#
# KEYS: the processes by their last heartbeat, and when which of them were seen to be
# silent. ARGV: seconds of silence, seconds between seeing that and death, seconds after
# which all that is forgotten.
DEAD = """
local beats, seen = KEYS[1], KEYS[2]
local now = tonumber(redis.call('TIME')[1])
local silent = redis.call('ZRANGEBYSCORE', beats, '-inf', now - ARGV[1], 'WITHSCORES')
local dead = {}
for i = 1, #silent, 2 do
    local process, beat = silent[i], silent[i + 1]
    local known = redis.call('HGET', seen, process) or ''
    local known_beat, known_at = string.match(known, '^(%S+) (%S+)$')
    if known_beat ~= beat then
        redis.call('HSET', seen, process, beat .. ' ' .. now)
        redis.call('EXPIRE', seen, ARGV[3])
    elseif now - tonumber(known_at) >= tonumber(ARGV[2]) then
        dead[#dead + 1] = process
    end
end
return dead
"""

ALL = (PUBLISH, READ, JOIN, LEAVE, MEMBERS, DEAD)


class Keys(t.NamedTuple):
    """The names that a topic has in Redis."""

    #: Where it is published.
    channel: str
    #: The epoch and the offset of the newest publication.
    meta: str
    #: The history.
    stream: str
    #: The members, by when they came.
    order: str
    #: What each socket brought about its member, by socket.
    infos: str
    #: What the keys of a member's sockets begin with.
    sockets: str
    #: How many joined, which gives them their order.
    counter: str


def keys_of(prefix: str, topic: str) -> Keys:
    begin = f"{prefix}:{{{topic}}}:"
    names = ("live", "meta", "stream", "order", "infos", "sockets:", "counter")
    return Keys(*(begin + name for name in names))


def control_channel(prefix: str) -> str:
    """Where all processes are told what to do."""
    return f"{prefix}:control"


def topic_of(prefix: str, channel: str) -> str | None:
    """The topic that is published in a channel, ``None`` if it is another channel."""
    begin, end = f"{prefix}:{{", "}:live"

    if channel.startswith(begin) and channel.endswith(end):
        return channel[len(begin) : -len(end)]

    return None
