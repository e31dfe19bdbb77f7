-- The guard of SPEC 8 for one sender in one context, over all who share this server:
-- one atomic step. SPEC 8.11 says what is stored, and why at most once.
--
-- KEYS   the namespace's hash; the place's hash; this client's last attempt there
-- ARGV   attempt (8 bytes of counter, 8 random), max_future, full_at, window,
--        forget_before, and the envelopes: stream 16, sequence 8, sent_at 8, expected 1
-- Reply  the attempt, cold, and for each envelope 8 bytes: skipped, or a verdict below
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
local attempt = ARGV[1]
local max_future, full_at = tonumber(ARGV[2]), tonumber(ARGV[3])
local window, forget_before = tonumber(ARGV[4]), tonumber(ARGV[5])
local marks = ARGV[6]
local floor_of = math.floor

-- An attempt made before gives what it gave then; one that was overtaken does nothing.
local done = redis.call('GET', last_attempt)
if done then
  if string.sub(done, 1, 16) == attempt then
    return {attempt, (struct.unpack('>i8', done, 17)), string.sub(done, 25)}
  elseif struct.unpack('>I8', done) >= struct.unpack('>I8', attempt) then
    return redis.error_reply('OVERTAKEN a later attempt of this client is known')
  end
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if not run then
  return redis.error_reply('NORUN this server does not tell its run_id')
end

-- A run_id that is not the one stored: the memory before it is lost (SPEC 8.11).
local shared = redis.call('HMGET', namespace, 'run', 'times', place)
local cold, stored = NEVER, max_future
if shared[2] then cold, stored = struct.unpack('>i8i8', shared[2]) end
local is_lost = shared[1] ~= run
if is_lost then
  cold = math.max(cold, now + 2 * math.max(max_future, stored))
elseif stored ~= max_future then
  return redis.error_reply(string.format(
    'MAXFUTURE receivers of this namespace use a max_future of %.6f s', stored / 1000000))
end
local ceiling = NEVER
if shared[3] then ceiling = struct.unpack('>i8', shared[3]) end

-- The place: floor, figures, the ids of its streams in the order of their entry.
local raw = redis.call('HMGET', place, 'meta', 'ids')
local meta, ids = {ceiling, 0, 0, 0, 0, 0, 0, 0, 0, 0}, raw[2] or ''
if raw[1] then meta = {struct.unpack(META, raw[1])} end
local FLOOR_AT, SKIPPED, LATE, ACCEPTED, LOST, UNSEEN = 1, 2, 3, 5, 9, 10

local order, entries = {}, {}
for at = 1, #ids, 16 do
  local id = string.sub(ids, at, at + 15)
  order[#order + 1] = id
end
local on_disk = {}
for _, id in ipairs(order) do on_disk[id] = true end

local function parse(head)
  local one = {}
  one.floor, one.first, one.newest, one.accepted, one.early, one.size, one.top =
    struct.unpack(HEAD, head)
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
      entries[string.sub(names[at], 2)] = parse(head)
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

local function ring_of(id, one)
  if not one.ring then
    one.ring = redis.call('HGET', place, 'r' .. id)
    assert(#one.ring == one.blocks, 'a window of another size than it says')
  end
  return one.ring
end

local function byte_and_bit(one, sequence)
  return floor_of(sequence / 8) % one.blocks + 1, bit.lshift(1, sequence % 8)
end

local function has(id, one, sequence)
  local at, flag = byte_and_bit(one, sequence)
  return bit.band(string.byte(ring_of(id, one), at), flag) ~= 0
end

local function clear(one, first, last)
  local count = last - first + 1
  if count >= one.blocks then
    one.ring = string.rep('\0', one.blocks)
    return
  end
  local start = first % one.blocks
  local wrapped = math.max(start + count - one.blocks, 0)
  one.ring = string.rep('\0', wrapped) .. string.sub(one.ring, wrapped + 1, start) ..
    string.rep('\0', count - wrapped) .. string.sub(one.ring, start + count - wrapped + 1)
end

local function add(id, one, sequence)
  ring_of(id, one)
  local skipped = sequence - one.top - 1
  if skipped >= 0 then
    local first, block = floor_of(one.top / 8) + 1, floor_of(sequence / 8)
    if block >= first then clear(one, first, block) end
    one.top = sequence
  else
    skipped = 0
  end
  local at, flag = byte_and_bit(one, sequence)
  local ring = one.ring
  one.ring = string.sub(ring, 1, at - 1) ..
    string.char(bit.bor(string.byte(ring, at), flag)) .. string.sub(ring, at + 1)
  return skipped
end

-- Check (SPEC 8.4).
local function check(id, sequence, sent_at, expected)
  if sent_at <= cold and not expected then return BEFORE_START end
  local one = find(id)
  if one then
    if sent_at <= one.floor then return FLOOR end
    if sequence + one.size <= one.top then return WINDOW end
    if sequence <= one.top and has(id, one, sequence) then return REPLAYED end
  elseif sent_at <= meta[FLOOR_AT] then
    return FLOOR
  elseif #order >= full_at then
    local _, least = lowest()
    if sent_at <= least then return FULL end
  end
  if sent_at > now + max_future then return FUTURE end
end

-- Raise the floor to what the window accepted, then drop the window (SPEC 8.6).
local function drop(at)
  local id = table.remove(order, at)
  local one = entries[id]
  local unseen = one.first - one.early
  meta[FLOOR_AT] = math.max(meta[FLOOR_AT], one.newest)
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
               early = 0, size = window, top = -1}
  one.blocks = floor_of((window + 7) / 8) + 1
  one.ring = string.rep('\0', one.blocks)
  entries[id] = one
  order[#order + 1] = id
  is_reordered = true
  return one
end

-- Mark (SPEC 8.5).
local function mark(id, sequence, sent_at, expected)
  local verdict = check(id, sequence, sent_at, expected)
  if verdict then return verdict end
  local one = entries[id] or enter(id, sequence)
  local is_late = sequence < one.top
  local skipped = add(id, one, sequence)
  one.accepted = one.accepted + 1
  one.newest = math.max(one.newest, sent_at)
  if is_late then
    meta[LATE] = meta[LATE] + 1
    if sequence < one.first then one.early = one.early + 1 end
  end
  meta[SKIPPED] = meta[SKIPPED] + skipped
  dirty[id] = one
  return skipped
end

local results, is_marked, newest = {}, false, NEVER
for at = 1, #marks, 33 do
  local id, sequence, sent_at, expected = struct.unpack('>c16i8i8B', marks, at)
  local result = mark(id, sequence, sent_at, expected ~= 0)
  results[#results + 1] = struct.pack('>i8', result)
  if result >= 0 then
    is_marked = true
    newest = math.max(newest, sent_at)
  end
end
results = table.concat(results)

-- From here on everything is written.
if is_lost then
  redis.call('HSET', namespace, 'run', run, 'times', struct.pack('>i8i8', cold, max_future))
end
if is_marked then
  -- The ceiling first: should the place ever be lost alone, it is the floor.
  if newest > ceiling then
    redis.call('HSET', namespace, place, struct.pack('>i8', newest + SLACK))
  end
  for id in pairs(gone) do
    if not entries[id] then redis.call('HDEL', place, 'h' .. id, 'r' .. id) end
  end
  local fields = {'meta', struct.pack(META, unpack(meta))}
  if is_reordered then
    fields[3], fields[4] = 'ids', table.concat(order)
  end
  for id, one in pairs(dirty) do
    if entries[id] == one then
      local count = #fields
      fields[count + 1] = 'h' .. id
      fields[count + 2] = struct.pack(HEAD, one.floor, one.first, one.newest, one.accepted,
                                      one.early, one.size, one.top)
      fields[count + 3] = 'r' .. id
      fields[count + 4] = one.ring
    end
  end
  redis.call('HSET', place, unpack(fields))
  redis.call('PEXPIRE', place, string.format('%.0f', math.max((now - forget_before) / 1000, DAY)))
  redis.call('SET', last_attempt, attempt .. struct.pack('>i8', cold) .. results,
             'PX', ATTEMPT_KEPT)
end
return {attempt, cold, results}
