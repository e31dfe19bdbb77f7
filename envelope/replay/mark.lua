-- The guard of SPEC 8 for one sender in one context, over all who share this server:
-- one atomic step. SPEC 8.11 says what is stored, and why at most once.
--
-- KEYS   the namespace's hash; the place's hash; this client's last attempt there
-- ARGV   attempt (8 bytes of counter, 8 random), max_future, full_at, window,
--        forget_before, 8 bytes each; the envelopes: stream 16, sequence 8, sent_at 8,
--        expected 1
-- Reply  the attempt, cold, and for each envelope skipped, or a verdict below; 8 bytes each
--
-- All reading and judging comes first, all writing last: an error leaves no trace.

local BEFORE_START, FLOOR, WINDOW, REPLAYED, FULL, FUTURE = -1, -2, -3, -4, -5, -6
local NEVER = -1
-- A place's ceiling is kept so far above its newest sent_at, to be written rarely.
local SLACK = 60000000
-- How long a client may ask again what came of an attempt, in milliseconds.
local ATTEMPT_KEPT = 3600000
-- The least time that a place is kept after its last envelope, in milliseconds.
local DAY = 86400000
local META = '>i8i8i8i8i8i8i8i8i8i8'
local HEAD = '>i8i8i8i8i8i8i8'

local namespace, place, last_attempt = KEYS[1], KEYS[2], KEYS[3]
local attempt, max_future, full_at, window, forget_before =
  struct.unpack('>c16i8i8i8i8', ARGV[1])
local marks = ARGV[2]

local floor_of, max = math.floor, math.max
local band, bor, lshift = bit.band, bit.bor, bit.lshift
local byte, sub = string.byte, string.sub
local pack, unpack_at = struct.pack, struct.unpack

-- An attempt made before gives what it gave then; one that was overtaken does nothing.
local done = redis.call('GET', last_attempt)
if done then
  if sub(done, 1, 16) == attempt then
    return done
  elseif unpack_at('>I8', done) >= unpack_at('>I8', attempt) then
    return redis.error_reply('OVERTAKEN a later attempt of this client is known')
  end
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local latest = now + max_future
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local replication = redis.call('INFO', 'replication')
local history = string.match(replication, 'master_replid:(%x+)')
if not run or not history then
  return redis.error_reply('NORUN this server does not tell its run_id and master_replid')
end
if not string.find(replication, 'role:master', 1, true) then
  return redis.error_reply('REPLICA what is written to a replica is soon lost')
end

-- Another run_id than the one stored, or another replication id: the memory before it is
-- lost (SPEC 8.11). The latter tells of a server that was a replica for a while.
local shared = redis.call('HMGET', namespace, 'run', 'times', place, 'history')
local cold, stored = NEVER, max_future
if shared[2] then cold, stored = unpack_at('>i8i8', shared[2]) end
local is_lost = shared[1] ~= run or shared[4] ~= history
if is_lost then
  cold = max(cold, now + 2 * max(max_future, stored))
elseif stored ~= max_future then
  return redis.error_reply(string.format(
    'MAXFUTURE receivers of this namespace use a max_future of %.6f s', stored / 1000000))
end
local ceiling = NEVER
if shared[3] then ceiling = unpack_at('>i8', shared[3]) end

-- The place: floor, figures, the ids of its streams in the order of their entry.
local raw = redis.call('HMGET', place, 'meta', 'ids')
local meta, ids = {ceiling, 0, 0, 0, 0, 0, 0, 0, 0, 0}, raw[2] or ''
if raw[1] then meta = {unpack_at(META, raw[1])} end
local FLOOR_AT, SKIPPED, LATE, ACCEPTED, LOST, UNSEEN = 1, 2, 3, 5, 9, 10

local order, entries = {}, {}
for at = 1, #ids, 16 do
  local id = sub(ids, at, at + 15)
  order[#order + 1] = id
end
local on_disk = {}
for _, id in ipairs(order) do on_disk[id] = true end

local function parse(head)
  local one = {changed = {}}
  one.floor, one.first, one.newest, one.accepted, one.early, one.size, one.top =
    unpack_at(HEAD, head)
  assert(one.top >= 0 and one.size > 0, 'a window that is none')
  one.blocks = floor_of((one.size + 7) / 8) + 1
  return one
end

local function find(id)
  if not entries[id] and on_disk[id] then
    entries[id] = parse(redis.call('HGET', place, 'h' .. id))
  end
  return entries[id]
end

local function find_all()
  local names = {}
  for _, id in ipairs(order) do
    if not entries[id] then names[#names + 1] = 'h' .. id end
  end
  if #names > 0 then
    for at, head in ipairs(redis.call('HMGET', place, unpack(names))) do
      entries[sub(names[at], 2)] = parse(head)
    end
  end
end

local function lowest()
  find_all()
  local at, least
  for index, id in ipairs(order) do
    if not least or entries[id].newest < least then at, least = index, entries[id].newest end
  end
  return at, least
end

-- The window: a ring of bytes as a string, and the bytes that were changed since.
local function load(id, one)
  one.ring = redis.call('HGET', place, 'r' .. id)
  assert(#one.ring == one.blocks, 'a window of another size than it says')
  return one.ring
end

local function flush(one)
  local places = {}
  for at in pairs(one.changed) do places[#places + 1] = at end
  if #places == 0 then return end
  table.sort(places)
  local pieces, from = {}, 1
  for _, at in ipairs(places) do
    pieces[#pieces + 1] = sub(one.ring, from, at - 1)
    pieces[#pieces + 1] = string.char(one.changed[at])
    from = at + 1
  end
  pieces[#pieces + 1] = sub(one.ring, from)
  one.ring, one.changed = table.concat(pieces), {}
end

local function clear(one, first, last)
  local count = last - first + 1
  if count >= one.blocks then
    one.ring, one.changed = string.rep('\0', one.blocks), {}
    return
  end
  local start = first % one.blocks
  if count == 1 then
    one.changed[start + 1] = 0
    return
  end
  flush(one)
  local wrapped = max(start + count - one.blocks, 0)
  one.ring = string.rep('\0', wrapped) .. sub(one.ring, wrapped + 1, start) ..
    string.rep('\0', count - wrapped) .. sub(one.ring, start + count - wrapped + 1)
end

-- Raise the floor to what the window accepted, then drop the window (SPEC 8.6).
local function drop(at)
  local id = table.remove(order, at)
  local one = entries[id]
  local unseen = one.first - one.early
  meta[FLOOR_AT] = max(meta[FLOOR_AT], one.newest)
  meta[ACCEPTED] = meta[ACCEPTED] + one.accepted
  meta[LOST] = meta[LOST] + one.top + 1 - unseen - one.accepted
  meta[UNSEEN] = meta[UNSEEN] + unseen
  entries[id] = nil
  on_disk[id] = nil
  return id
end

local dirty, gone, is_reordered = {}, {}, false

local function enter(id, sequence)
  find_all()
  for at = #order, 1, -1 do
    if entries[order[at]].newest <= forget_before then gone[drop(at)] = true end
  end
  while #order >= full_at do gone[drop((lowest()))] = true end
  local one = {floor = meta[FLOOR_AT], first = sequence, newest = NEVER, accepted = 0,
               early = 0, size = window, top = -1, changed = {}}
  one.blocks = floor_of((window + 7) / 8) + 1
  one.ring = string.rep('\0', one.blocks)
  entries[id] = one
  order[#order + 1] = id
  is_reordered = true
  return one
end

-- Check (SPEC 8.4), then mark (SPEC 8.5): one function, for it runs once an envelope.
local function mark(id, sequence, sent_at, expected)
  if sent_at <= cold and expected == 0 then return BEFORE_START end
  local one = entries[id] or find(id)
  local block, flag = floor_of(sequence / 8), lshift(1, sequence % 8)
  local at, bits
  if one then
    if sent_at <= one.floor then return FLOOR end
    if sequence + one.size <= one.top then return WINDOW end
    at = block % one.blocks + 1
    bits = one.changed[at] or byte(one.ring or load(id, one), at)
    if sequence <= one.top and band(bits, flag) ~= 0 then return REPLAYED end
  elseif sent_at <= meta[FLOOR_AT] then
    return FLOOR
  elseif #order >= full_at then
    local _, least = lowest()
    if sent_at <= least then return FULL end
  end
  if sent_at > latest then return FUTURE end

  if not one then
    one = enter(id, sequence)
    at, bits = block % one.blocks + 1, 0
  end
  local skipped = sequence - one.top - 1
  if skipped >= 0 then
    local first = floor_of(one.top / 8) + 1
    if block >= first then
      clear(one, first, block)
      bits = 0
    end
    one.top = sequence
    meta[SKIPPED] = meta[SKIPPED] + skipped
  else
    skipped = 0
    meta[LATE] = meta[LATE] + 1
    if sequence < one.first then one.early = one.early + 1 end
  end
  one.changed[at] = bor(bits, flag)
  one.accepted = one.accepted + 1
  if sent_at > one.newest then one.newest = sent_at end
  dirty[id] = one
  return skipped
end

local results, is_marked, newest = {}, false, NEVER
for at = 1, #marks, 33 do
  local id, sequence, sent_at, expected = unpack_at('>c16i8i8B', marks, at)
  local result = mark(id, sequence, sent_at, expected)
  results[#results + 1] = result
  if result >= 0 then
    is_marked = true
    if sent_at > newest then newest = sent_at end
  end
end
local reply = pack('>c16' .. string.rep('i8', 1 + #results), attempt, cold, unpack(results))

-- From here on everything is written.
if is_lost then
  redis.call('HSET', namespace, 'run', run, 'history', history,
             'times', pack('>i8i8', cold, max_future))
end
if #marks == 0 then
  -- A client's first call: may it do what must not fail later, when a mark is half done?
  redis.call('SET', last_attempt, '', 'XX')  -- There is none: these change nothing.
  redis.call('PEXPIRE', last_attempt, 1)
end
if is_marked then
  -- The ceiling first: should the place ever be lost alone, it is the floor.
  if newest > ceiling then
    redis.call('HSET', namespace, place, pack('>i8', newest + SLACK))
  end
  for id in pairs(gone) do
    if not entries[id] then redis.call('HDEL', place, 'h' .. id, 'r' .. id) end
  end
  local fields = {'meta', pack(META, unpack(meta))}
  if is_reordered then
    fields[3], fields[4] = 'ids', table.concat(order)
  end
  for id, one in pairs(dirty) do
    if entries[id] == one then
      flush(one)
      local count = #fields
      fields[count + 1] = 'h' .. id
      fields[count + 2] = pack(HEAD, one.floor, one.first, one.newest, one.accepted,
                                      one.early, one.size, one.top)
      fields[count + 3] = 'r' .. id
      fields[count + 4] = one.ring
    end
  end
  redis.call('HSET', place, unpack(fields))
  if newest > ceiling then  -- Not each time: it costs.
    redis.call('PEXPIRE', place, string.format('%.0f', max((now - forget_before) / 1000, DAY)))
  end
  redis.call('SET', last_attempt, reply, 'PX', ATTEMPT_KEPT)
end
return reply
