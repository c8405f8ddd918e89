-- Wireshark dissector for VMMC, protocol version 7: docs/protocol.md says what every field means.
--
-- To try it:       wireshark -X lua_script:vmmc.lua FILE
-- To install it:   copy it to the folder "Personal Lua Plugins" of Help > About Wireshark > Folders,
--                  usually ~/.local/lib/wireshark/plugins
--
-- It takes UDP port 7000, for packets of the bulk lane port 7001 (preferences), and, on other ports, what looks like a packet and has a right checksum.
-- What it flags as malformed is what a node refuses. It links each packet to the one that announced its token, PUTs
-- and FETCHes to the name of the export they are for, and repetitions to the first packet of their number, as far as the capture has these.

local VERSION = 7
local HEADER_LEN, HELLO_LEN, PUT_LEN, NOTIFY_LEN, FETCH_LEN, FETCHED_LEN = 32, 40, 16, 16, 32, 16
local BULK_HEADER_LEN, BULK_ASK_LEN = 24, 32
local MIN_MTU, MAX_NAME, MAX_SACK, MAX_MISSING = 1280, 128, 128, 64
local HELLO, WELCOME, DATA, ACK, CLOSE, RESET, BULK = 1, 2, 3, 4, 5, 6, 7
local PUT, IMPORT, IMPORTED, RELEASE, REVOKED, REFUSED, FETCH, FETCHED, FETCH_REFUSED, FETCH_CANCEL = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local BULK_ASK, BULK_GRANTED, BULK_DECLINED, BULK_LANDED, BULK_MISSING, BULK_DONE, BULK_CLEARED, BULK_CANCEL, BULK_SENT = 11, 12, 13, 14, 15, 16, 17, 18, 19

local kinds = { "HELLO", "WELCOME", "DATA", "ACK", "CLOSE", "RESET", "BULK" }
local record_kinds = { "PUT", "IMPORT", "IMPORTED", "RELEASE", "REVOKED", "REFUSED", "FETCH", "FETCHED", "FETCH_REFUSED", "FETCH_CANCEL",
  "BULK_ASK", "BULK_GRANTED", "BULK_DECLINED", "BULK_LANDED", "BULK_MISSING", "BULK_DONE", "BULK_CLEARED", "BULK_CANCEL", "BULK_SENT" }
local import_status = { [0] = "granted", "unknown name", "denied", "too many grants" }
local refusals = { "no such grant", "out of range", "not writable", "lent" }
local fetch_refusals = { "no such grant", "out of range", "not readable", "too many", "cancelled" }
local bulk_refusals = { "not by this lane", "not wanted" }
local checksum_status = { [0] = "wrong", "right", "not verified", "none" }
local CHECKSUM_BAD, CHECKSUM_GOOD, CHECKSUM_UNVERIFIED, CHECKSUM_NONE = 0, 1, 2, 3

local vmmc = Proto("vmmc", "Virtual Memory-Mapped Communication")

---------------------------------------------------------------------------------------------------------------- fields

local f = {
  checksum = ProtoField.uint32("vmmc.checksum", "Checksum (CRC32C)", base.HEX),
  checksum_status = ProtoField.uint8("vmmc.checksum.status", "Checksum is", base.DEC, checksum_status),
  version = ProtoField.uint8("vmmc.version", "Version"),
  kind = ProtoField.uint8("vmmc.kind", "Kind", base.DEC, kinds),
  flags = ProtoField.uint8("vmmc.flags", "Flags", base.HEX),
  ack_now = ProtoField.bool("vmmc.flags.ack_now", "Acknowledge now", 8, nil, 0x01),
  sack = ProtoField.bool("vmmc.flags.sack", "Selective acknowledgements follow", 8, nil, 0x02),
  checked = ProtoField.bool("vmmc.flags.checked", "Has a checksum", 8, nil, 0x04),
  provisional = ProtoField.bool("vmmc.flags.provisional", "Completes no sends", 8, nil, 0x08),
  late = ProtoField.bool("vmmc.flags.late", "Late: says nothing about the path's delay", 8, nil, 0x10),
  throttled = ProtoField.bool("vmmc.flags.throttled", "The credit is for FETCHEDs alone", 8, nil, 0x20),
  flags_reserved = ProtoField.uint8("vmmc.flags.reserved", "Reserved", base.HEX, nil, 0xc0),
  reserved = ProtoField.uint8("vmmc.reserved", "Reserved", base.HEX),
  token = ProtoField.uint64("vmmc.token", "Token", base.HEX),
  seq = ProtoField.uint32("vmmc.seq", "Sequence"),
  ack = ProtoField.uint32("vmmc.ack", "Acknowledged before"),
  credit = ProtoField.uint16("vmmc.credit", "Credit, packets"),
  ack_delay = ProtoField.uint16("vmmc.ack_delay", "Acknowledgement's delay, us"),
  marks = ProtoField.uint16("vmmc.marks", "Packets with ECN marks"),
  reserved2 = ProtoField.uint16("vmmc.reserved2", "Reserved", base.HEX),

  incarnation = ProtoField.uint64("vmmc.hello.incarnation", "Incarnation", base.HEX),
  hello_token = ProtoField.uint64("vmmc.hello.token", "Token for packets to the sender", base.HEX),
  peer_incarnation = ProtoField.uint64("vmmc.hello.peer_incarnation", "Peer's incarnation", base.HEX),
  first = ProtoField.uint32("vmmc.hello.first", "First sequence"),
  mtu = ProtoField.uint16("vmmc.hello.mtu", "MTU: length of this IP packet"),
  options = ProtoField.uint8("vmmc.hello.options", "Options", base.HEX),
  option_checksum = ProtoField.bool("vmmc.hello.options.checksum", "Checksums", 8, nil, 0x01),
  option_bulk = ProtoField.bool("vmmc.hello.options.bulk", "Bulk lane", 8, nil, 0x02),
  options_reserved = ProtoField.uint8("vmmc.hello.options.reserved", "Reserved", base.HEX, nil, 0xfc),
  hello_reserved = ProtoField.uint8("vmmc.hello.reserved", "Reserved", base.HEX),
  hello_reserved2 = ProtoField.uint64("vmmc.hello.reserved2", "Reserved", base.HEX),
  padding = ProtoField.bytes("vmmc.hello.padding", "Padding"),

  sack_word = ProtoField.uint64("vmmc.sack.word", "Bitmap of packets that are here", base.HEX),
  sack_packets = ProtoField.string("vmmc.sack.packets", "Packets that are here"),

  record = ProtoField.none("vmmc.record", "Record"),
  record_kind = ProtoField.uint8("vmmc.record.kind", "Record", base.DEC, record_kinds),
  record_reserved = ProtoField.bytes("vmmc.record.reserved", "Reserved"),
  put_flags = ProtoField.uint8("vmmc.put.flags", "Flags", base.HEX),
  put_notify = ProtoField.bool("vmmc.put.flags.notify", "Notify", 8, nil, 0x01),
  put_flags_reserved = ProtoField.uint8("vmmc.put.flags.reserved", "Reserved", base.HEX, nil, 0xfe),
  put_length = ProtoField.uint16("vmmc.put.length", "Length, bytes"),
  put_grant = ProtoField.uint32("vmmc.put.grant", "Grant"),
  put_offset = ProtoField.uint64("vmmc.put.offset", "Offset"),
  put_tag = ProtoField.uint32("vmmc.put.tag", "Tag"),
  put_total = ProtoField.uint64("vmmc.put.total", "Length of the whole send, bytes"),
  put_data = ProtoField.bytes("vmmc.put.data", "Data"),
  import_name_length = ProtoField.uint16("vmmc.import.name_length", "Length of the name"),
  import_request = ProtoField.uint32("vmmc.import.request", "Request"),
  import_key = ProtoField.bytes("vmmc.import.key", "Key"),
  import_name = ProtoField.string("vmmc.import.name", "Name", base.UNICODE),
  imported_status = ProtoField.uint8("vmmc.imported.status", "Status", base.DEC, import_status),
  imported_request = ProtoField.uint32("vmmc.imported.request", "Request"),
  imported_grant = ProtoField.uint32("vmmc.imported.grant", "Grant"),
  imported_flags = ProtoField.uint32("vmmc.imported.flags", "Flags", base.HEX),
  imported_notifies = ProtoField.bool("vmmc.imported.flags.notifies", "Takes notifications", 32, nil, 0x01),
  imported_readable = ProtoField.bool("vmmc.imported.flags.readable", "May be fetched from", 32, nil, 0x02),
  imported_writable = ProtoField.bool("vmmc.imported.flags.writable", "May be written into", 32, nil, 0x04),
  imported_flags_reserved = ProtoField.uint32("vmmc.imported.flags.reserved", "Reserved", base.HEX, nil, 0xfffffff8),
  imported_length = ProtoField.uint64("vmmc.imported.length", "Length of the export, bytes"),
  release_grant = ProtoField.uint32("vmmc.release.grant", "Grant"),
  revoked_grant = ProtoField.uint32("vmmc.revoked.grant", "Grant"),
  refused_reason = ProtoField.uint8("vmmc.refused.reason", "Reason", base.DEC, refusals),
  refused_grant = ProtoField.uint32("vmmc.refused.grant", "Grant"),
  refused_seq = ProtoField.uint32("vmmc.refused.seq", "Sequence of the packet refused"),
  fetch_request = ProtoField.uint32("vmmc.fetch.request", "Request"),
  fetch_grant = ProtoField.uint32("vmmc.fetch.grant", "Grant"),
  fetch_offset = ProtoField.uint64("vmmc.fetch.offset", "Offset"),
  fetch_length = ProtoField.uint64("vmmc.fetch.length", "Length, bytes"),
  fetched_request = ProtoField.uint32("vmmc.fetched.request", "Request"),
  fetched_length = ProtoField.uint16("vmmc.fetched.length", "Length of the piece, bytes"),
  fetched_at = ProtoField.uint64("vmmc.fetched.at", "Place in what was asked for"),
  fetched_data = ProtoField.bytes("vmmc.fetched.data", "Data"),
  fetch_refused_reason = ProtoField.uint8("vmmc.fetch_refused.reason", "Reason", base.DEC, fetch_refusals),
  fetch_refused_request = ProtoField.uint32("vmmc.fetch_refused.request", "Request"),
  fetch_cancel_request = ProtoField.uint32("vmmc.fetch_cancel.request", "Request"),
  bulk_transfer = ProtoField.uint32("vmmc.bulk.transfer", "Transfer"),
  bulk_grant = ProtoField.uint32("vmmc.bulk.grant", "Bulk grant"),
  bulk_questions = ProtoField.uint16("vmmc.bulk.questions", "Questions heard"),
  bulk_packets = ProtoField.uint32("vmmc.bulk.packets", "Packets that have landed"),
  bulk_reason = ProtoField.uint8("vmmc.bulk.reason", "Reason", base.DEC, bulk_refusals),
  bulk_ranges = ProtoField.uint16("vmmc.bulk.ranges", "Ranges"),
  bulk_first = ProtoField.uint32("vmmc.bulk.first", "First segment"),
  bulk_end = ProtoField.uint32("vmmc.bulk.end", "Segment after the last"),
  bulk_segment = ProtoField.uint32("vmmc.bulk.segment", "Segment"),
  bulk_flags_reserved = ProtoField.uint8("vmmc.bulk.flags.reserved", "Reserved", base.HEX, nil, 0xfb),
  bulk_data = ProtoField.bytes("vmmc.bulk.data", "Data"),
  ask_flags = ProtoField.uint8("vmmc.bulk_ask.flags", "Flags", base.HEX),
  ask_notify = ProtoField.bool("vmmc.bulk_ask.flags.notify", "Notify", 8, nil, 0x01),
  ask_fetched = ProtoField.bool("vmmc.bulk_ask.flags.fetched", "Answers a FETCH", 8, nil, 0x02),
  ask_flags_reserved = ProtoField.uint8("vmmc.bulk_ask.flags.reserved", "Reserved", base.HEX, nil, 0xfc),
  ask_rest = ProtoField.uint16("vmmc.bulk_ask.rest", "Length of the rest, bytes"),
  ask_grant = ProtoField.uint32("vmmc.bulk_ask.grant", "Grant"),
  ask_request = ProtoField.uint32("vmmc.bulk_ask.request", "Request"),
  ask_segment = ProtoField.uint32("vmmc.bulk_ask.segment", "Length of a segment, bytes"),
  ask_segments = ProtoField.uint32("vmmc.bulk_ask.segments", "Segments"),
  ask_offset = ProtoField.uint64("vmmc.bulk_ask.offset", "Offset"),
  ask_tag = ProtoField.uint32("vmmc.bulk_ask.tag", "Tag"),
  ask_total = ProtoField.uint64("vmmc.bulk_ask.total", "Length of the whole send, bytes"),
  ask_data = ProtoField.bytes("vmmc.bulk_ask.data", "Data of the rest"),
  rest = ProtoField.bytes("vmmc.rest", "Not dissected"),

  -- What the capture tells, and not the packet alone.
  announced_in = ProtoField.framenum("vmmc.token.announced_in", "Token announced in", base.NONE),
  receiver = ProtoField.string("vmmc.token.receiver", "Token of"),
  repeats = ProtoField.framenum("vmmc.repeats", "Has the number of", base.NONE, frametype.RETRANS_PREV),
  export = ProtoField.string("vmmc.put.export", "Export"),
}
vmmc.fields = f

local expert = {
  malformed = ProtoExpert.new("vmmc.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR),
  reserved = ProtoExpert.new("vmmc.malformed.reserved", "A reserved bit is set", expert.group.MALFORMED, expert.severity.ERROR),
  checksum = ProtoExpert.new("vmmc.checksum.bad", "Wrong checksum", expert.group.CHECKSUM, expert.severity.ERROR),
  cut = ProtoExpert.new("vmmc.cut", "Cut short by the capture", expert.group.UNDECODED, expert.severity.NOTE),
  rest = ProtoExpert.new("vmmc.rest.note", "Bytes without a meaning", expert.group.UNDECODED, expert.severity.NOTE),
  repeats = ProtoExpert.new("vmmc.repeats.note", "Repeated", expert.group.SEQUENCE, expert.severity.NOTE),
  refused = ProtoExpert.new("vmmc.refused.note", "Refused", expert.group.RESPONSE_CODE, expert.severity.WARN),
}
vmmc.experts = expert

vmmc.prefs.ports = Pref.range("UDP ports", "7000", "The UDP ports of nodes", 65535)
vmmc.prefs.bulk_ports = Pref.range("UDP ports of bulk lanes", "7001", "The UDP ports of nodes' bulk lanes: those after their own", 65535)
vmmc.prefs.verify = Pref.bool("Verify checksums", true, "Compute the CRC32C of every packet, and flag those that have another")

---------------------------------------------------------------------------------------------------------------- CRC32C

-- Wireshark's Lua has had these in different places.
local bits = bit or bit32 or load([[return {
  band = function(a, b) return a & b end,
  rshift = function(a, n) return (a & 0xffffffff) >> n end,
  bxor = function(a, ...) for _, b in ipairs({...}) do a = a ~ b end return a & 0xffffffff end,
}]])()
local band, rshift, bxor = bits.band, bits.rshift, bits.bxor

-- crc_of[k][b]: what byte b does to the checksum with k - 1 bytes after it.
local crc_of = { {}, {}, {}, {}, {}, {}, {}, {} }
for b = 0, 255 do
  local crc = b
  for _ = 1, 8 do
    crc = bxor(rshift(crc, 1), band(crc, 1) == 1 and 0x82f63b78 or 0)
  end
  crc_of[1][b] = crc
end
for k = 2, 8 do
  for b = 0, 255 do
    local crc = crc_of[k - 1][b]
    crc_of[k][b] = bxor(rshift(crc, 8), crc_of[1][band(crc, 0xff)])
  end
end

local function crc32c(bytes)
  local t1, t2, t3, t4, t5, t6, t7, t8 = table.unpack(crc_of)
  local byte = string.byte
  local crc = 0xffffffff
  local whole = #bytes - #bytes % 8
  for i = 1, whole, 8 do
    local b1, b2, b3, b4, b5, b6, b7, b8 = byte(bytes, i, i + 7)
    crc = bxor(
      t8[bxor(band(crc, 0xff), b1)], t7[bxor(band(rshift(crc, 8), 0xff), b2)],
      t6[bxor(band(rshift(crc, 16), 0xff), b3)], t5[bxor(rshift(crc, 24), b4)], t4[b5], t3[b6], t2[b7], t1[b8])
  end
  for i = whole + 1, #bytes do
    crc = bxor(rshift(crc, 8), t1[bxor(band(crc, 0xff), byte(bytes, i))])
  end
  return bxor(crc, 0xffffffff) % 0x100000000
end

-- What there is to say about the checksum: everything after it is covered, to the end of the datagram.
local function check(tvb)
  if band(tvb(6, 1):uint(), 0x04) == 0 then
    return CHECKSUM_NONE
  elseif not vmmc.prefs.verify or tvb:captured_len() < tvb:reported_len() then
    return CHECKSUM_UNVERIFIED
  end
  return crc32c(tvb:raw(4)) == tvb(0, 4):uint() and CHECKSUM_GOOD or CHECKSUM_BAD
end

--------------------------------------------------------------------------------------------------- what the capture tells

-- By token: who announced it (where packets with it go), in which frame, the other side's token of the same link, the first frame of each
-- number, what was asked for by which request, and the name of each grant.
local links = {}

function vmmc.init()
  links = {}
end

local function link_of(token)
  local link = links[token]
  if not link then
    link = { first_of = {}, requests = {}, names = {} }
    links[token] = link
  end
  return link
end

---------------------------------------------------------------------------------------------------------------- parsing

-- A packet under dissection: bytes are taken from its front, with a field for each piece.
local Cursor = {}
Cursor.__index = Cursor

function Cursor.new(tvb, at, tree)
  return setmetatable({ tvb = tvb, at = at, tree = tree, ok = true }, Cursor)
end

function Cursor:flag(info, text)
  self.tree:add_proto_expert_info(info, text)
  if info ~= expert.cut then self.wrong = self.wrong or text end
  self.ok = false
end

-- Whether `count` more bytes are here. Says what is wrong if not.
function Cursor:has(count, what)
  if self.at + count <= self.tvb:captured_len() then return true end
  if self.at + count <= self.tvb:reported_len() then
    self:flag(expert.cut, "The capture ends before the " .. what)
  else
    self:flag(expert.malformed, "The packet ends before its " .. what)
  end
  return false
end

function Cursor:remaining()
  return self.tvb:reported_len() - self.at
end

-- The next bytes, shown as `field`.
function Cursor:take(count, field, tree)
  local range = self.tvb(self.at, count)
  self.at = self.at + count
  return range, (tree or self.tree):add(field, range)
end

-- The next bytes, which must be zero.
function Cursor:reserve(count, field, tree)
  local range, item = self:take(count, field, tree)
  if range:raw():find("[^\0]") then self:reserved_set(item) end
end

function Cursor:reserved_set(item)
  item:add_proto_expert_info(expert.reserved)
  self.wrong = self.wrong or "reserved bit"
  self.ok = false
end

local function hex(value)
  return "0x" .. value:tohex()
end

local function parse_hello(cursor, kind, header_token, pinfo, info, link)
  if not cursor:has(HELLO_LEN, "hello") then return end
  cursor:take(8, f.incarnation)
  local token = cursor:take(8, f.hello_token):uint64()
  cursor:take(8, f.peer_incarnation)
  local first = cursor:take(4, f.first):uint()
  local mtu, mtu_item = cursor:take(2, f.mtu)
  local options = cursor.tvb(cursor.at, 1)
  local _, options_item = cursor:take(1, f.options)
  options_item:add(f.option_checksum, options)
  options_item:add(f.option_bulk, options)
  options_item:add(f.options_reserved, options)
  if band(options:uint(), 0xfc) ~= 0 then cursor:reserved_set(options_item) end
  cursor:reserve(1, f.hello_reserved)
  cursor:reserve(8, f.hello_reserved2)
  if token == UInt64(0) then cursor:flag(expert.malformed, "The token is zero") end
  local headers = tostring(pinfo.net_src):find(":", 1, true) and 48 or 28
  local length = headers + cursor.tvb:reported_len()
  if mtu:uint() < MIN_MTU then
    cursor:flag(expert.malformed, "The MTU is below " .. MIN_MTU)
  elseif mtu:uint() ~= length then
    cursor:flag(expert.malformed, "The MTU isn't the length of this IP packet, which is " .. length)
  else
    mtu_item:append_text(" (as it is)")
  end
  info[#info + 1] = string.format("mtu=%d first=%d mine=%s%s", mtu:uint(), first, hex(token),
    band(options:uint(), 1) == 1 and " checksums" or "")

  local padding = math.min(cursor:remaining(), cursor.tvb:captured_len() - cursor.at)
  if padding > 0 then
    local _, item = cursor:take(padding, f.padding)
    item:set_text("Padding: " .. padding .. " bytes")
  end
  if cursor.ok and not pinfo.visited then
    local mine = link_of(tostring(token))
    mine.receiver = tostring(pinfo.src) .. ":" .. pinfo.src_port
    mine.announced_in = mine.announced_in or pinfo.number
    if kind == WELCOME then
      mine.other, link.other = tostring(header_token), tostring(token)
    end
  end
end

-- The numbers in the bitmap, as text: 18, 20-23. There are no more bits than MAX_SACK has.
local function sack_text(bitmap, ack)
  local runs, from, last = {}, nil, nil
  local function close()
    if from then
      local a, b = (ack + from) % 0x100000000, (ack + last) % 0x100000000
      runs[#runs + 1] = a == b and tostring(a) or string.format("%d-%d", a, b)
    end
  end
  for i = 0, #bitmap * 8 - 1 do
    if band(rshift(bitmap:byte(math.floor(i / 8) + 1), i % 8), 1) == 1 then
      local distance = i + 1
      if last ~= distance - 1 or not from then
        close()
        from = distance
      end
      last = distance
    end
  end
  close()
  return table.concat(runs, ", ")
end

local function parse_sack(cursor, ack, info)
  local length = cursor:remaining()
  if length == 0 or length % 8 ~= 0 or length > MAX_SACK then
    return cursor:flag(expert.malformed, "Selective acknowledgements have 8 to 128 bytes, in steps of 8, not " .. length)
  elseif not cursor:has(length, "selective acknowledgements") then
    return
  end
  local all, last = cursor.tvb(cursor.at, length), nil
  for _ = 1, length / 8 do
    local range = cursor.tvb(cursor.at, 8)
    cursor.tree:add_le(f.sack_word, range)
    cursor.at = cursor.at + 8
    last = range
  end
  if not last:raw():find("[^\0]") then
    return cursor:flag(expert.malformed, "The last 8 bytes of the selective acknowledgements are zero")
  end
  local text = sack_text(all:raw(), ack)
  cursor.tree:add(f.sack_packets, all, text):set_generated()
  local short = text:gsub(", ", ",")
  info[#info + 1] = "sack=" .. (#short > 60 and short:sub(1, 60) .. "..." or short)
end

-- Each takes one record after its kind, and returns what there is to say about it, or nothing when it had to stop.
local parse_record = {}

parse_record[PUT] = function(cursor, link)
  if not cursor:has(PUT_LEN - 1, "PUT") then return end
  local flags, flags_item = cursor:take(1, f.put_flags)
  flags_item:add(f.put_notify, flags)
  flags_item:add(f.put_flags_reserved, flags)
  if band(flags:uint(), 0xfe) ~= 0 then return cursor:reserved_set(flags_item) end
  local length = cursor:take(2, f.put_length):uint()
  local grant = cursor:take(4, f.put_grant):uint()
  local offset = cursor:take(8, f.put_offset):uint64()
  local text = string.format("grant=%d off=%s len=%d", grant, tostring(offset), length)
  local name = link.names[grant]
  if name then
    cursor.tree:add(f.export, name):set_generated()
    text = text .. string.format(" (%s)", name)
  end
  local finish = offset + UInt64(length)
  if finish < offset then
    return cursor:flag(expert.malformed, "Offset and length exceed 64 bits")
  end
  if band(flags:uint(), 1) == 1 then
    if not cursor:has(NOTIFY_LEN, "notification") then return end
    local tag = cursor:take(4, f.put_tag):uint()
    cursor:reserve(4, f.record_reserved)
    local total = cursor:take(8, f.put_total):uint64()
    if total < UInt64(length) or total > finish then
      return cursor:flag(expert.malformed, "The whole send is shorter than this piece, or begins before the export")
    end
    text = text .. " notify tag=" .. tag
  end
  if not cursor.ok or not cursor:has(length, "PUT's data") then return end
  if length > 0 then cursor:take(length, f.put_data) end
  return text
end

parse_record[IMPORT] = function(cursor, link, pinfo)
  if not cursor:has(23, "IMPORT") then return end
  cursor:reserve(1, f.record_reserved)
  local length = cursor:take(2, f.import_name_length):uint()
  local request = cursor:take(4, f.import_request):uint()
  cursor:take(16, f.import_key)
  if length < 1 or length > MAX_NAME then
    return cursor:flag(expert.malformed, "A name has 1 to " .. MAX_NAME .. " bytes, not " .. length)
  end
  if not cursor.ok or not cursor:has(length, "name") then return end
  local range = cursor.tvb(cursor.at, length)
  local name = range:string(ENC_UTF_8)
  cursor.tree:add(f.import_name, range, name)
  cursor.at = cursor.at + length
  if not pinfo.visited then link.requests[request] = name end
  return string.format("request=%d %q", request, name)
end

parse_record[IMPORTED] = function(cursor, link, pinfo)
  if not cursor:has(23, "IMPORTED") then return end
  local status, status_item = cursor:take(1, f.imported_status)
  cursor:reserve(2, f.record_reserved)
  local request = cursor:take(4, f.imported_request):uint()
  local grant = cursor:take(4, f.imported_grant):uint()
  local flags, flags_item = cursor:take(4, f.imported_flags)
  flags_item:add(f.imported_notifies, flags)
  flags_item:add(f.imported_readable, flags)
  flags_item:add(f.imported_writable, flags)
  flags_item:add(f.imported_flags_reserved, flags)
  if flags:uint() > 7 then cursor:reserved_set(flags_item) end
  local length = cursor:take(8, f.imported_length):uint64()
  local meaning = import_status[status:uint()]
  if not meaning then
    return cursor:flag(expert.malformed, "Unknown status of an import " .. status:uint())
  end
  if status:uint() ~= 0 then
    status_item:add_proto_expert_info(expert.refused, "The import was refused: " .. meaning)
    return string.format("request=%d %s", request, meaning)
  end
  -- The request went the other way, under the other token of the link, and so will the PUTs.
  local other = link.other and links[link.other]
  if other and cursor.ok and not pinfo.visited then other.names[grant] = other.requests[request] end
  local name = other and other.names[grant]
  return string.format("request=%d grant=%d len=%s%s", request, grant, tostring(length), name and " (" .. name .. ")" or "")
end

local function parse_grant(field)
  return function(cursor)
    if not cursor:has(7, "grant") then return end
    cursor:reserve(3, f.record_reserved)
    return "grant=" .. cursor:take(4, field):uint()
  end
end
parse_record[RELEASE] = parse_grant(f.release_grant)
parse_record[REVOKED] = parse_grant(f.revoked_grant)

parse_record[REFUSED] = function(cursor)
  if not cursor:has(15, "REFUSED") then return end
  local reason, reason_item = cursor:take(1, f.refused_reason)
  cursor:reserve(2, f.record_reserved)
  local grant = cursor:take(4, f.refused_grant):uint()
  local seq = cursor:take(4, f.refused_seq):uint()
  cursor:reserve(4, f.record_reserved)
  local meaning = refusals[reason:uint()]
  if not meaning then
    return cursor:flag(expert.malformed, "Unknown reason of a refusal " .. reason:uint())
  end
  reason_item:add_proto_expert_info(expert.refused, "A PUT was refused: " .. meaning)
  return string.format("grant=%d seq=%d %s", grant, seq, meaning)
end

parse_record[FETCH] = function(cursor, link)
  if not cursor:has(FETCH_LEN - 1, "FETCH") then return end
  cursor:reserve(3, f.record_reserved)
  local request = cursor:take(4, f.fetch_request):uint()
  local grant = cursor:take(4, f.fetch_grant):uint()
  cursor:reserve(4, f.record_reserved)
  local offset = cursor:take(8, f.fetch_offset):uint64()
  local length = cursor:take(8, f.fetch_length):uint64()
  if length == UInt64(0) then
    return cursor:flag(expert.malformed, "A fetch of nothing")
  elseif offset + length < offset then
    return cursor:flag(expert.malformed, "Offset and length exceed 64 bits")
  end
  local name = link.names[grant]
  if name then cursor.tree:add(f.export, name):set_generated() end
  return string.format("request=%d grant=%d off=%s len=%s%s", request, grant, tostring(offset), tostring(length),
    name and " (" .. name .. ")" or "")
end

parse_record[FETCHED] = function(cursor)
  if not cursor:has(FETCHED_LEN - 1, "FETCHED") then return end
  cursor:reserve(1, f.record_reserved)
  local length = cursor:take(2, f.fetched_length):uint()
  local request = cursor:take(4, f.fetched_request):uint()
  local at = cursor:take(8, f.fetched_at):uint64()
  if length == 0 then
    return cursor:flag(expert.malformed, "A piece of nothing")
  elseif at + UInt64(length) < at then
    return cursor:flag(expert.malformed, "Place and length exceed 64 bits")
  end
  if not cursor.ok or not cursor:has(length, "FETCHED's data") then return end
  cursor:take(length, f.fetched_data)
  return string.format("request=%d at=%s len=%d", request, tostring(at), length)
end

parse_record[FETCH_REFUSED] = function(cursor)
  if not cursor:has(7, "FETCH_REFUSED") then return end
  local reason, reason_item = cursor:take(1, f.fetch_refused_reason)
  cursor:reserve(2, f.record_reserved)
  local request = cursor:take(4, f.fetch_refused_request):uint()
  local meaning = fetch_refusals[reason:uint()]
  if not meaning then
    return cursor:flag(expert.malformed, "Unknown reason of a refusal " .. reason:uint())
  end
  reason_item:add_proto_expert_info(expert.refused, "A fetch was refused: " .. meaning)
  return string.format("request=%d %s", request, meaning)
end

parse_record[FETCH_CANCEL] = function(cursor)
  if not cursor:has(7, "FETCH_CANCEL") then return end
  cursor:reserve(3, f.record_reserved)
  return "request=" .. cursor:take(4, f.fetch_cancel_request):uint()
end

parse_record[BULK_ASK] = function(cursor, link)
  if not cursor:has(BULK_ASK_LEN - 1, "BULK_ASK") then return end
  local flags, flags_item = cursor:take(1, f.ask_flags)
  flags_item:add(f.ask_notify, flags)
  flags_item:add(f.ask_fetched, flags)
  flags_item:add(f.ask_flags_reserved, flags)
  if flags:uint() > 2 then return cursor:reserved_set(flags_item) end
  local notifies, fetched = flags:uint() == 1, flags:uint() == 2
  local rest = cursor:take(2, f.ask_rest):uint()
  local transfer = cursor:take(4, f.bulk_transfer):uint()
  local number = cursor:take(4, fetched and f.ask_request or f.ask_grant):uint()
  local segment = cursor:take(4, f.ask_segment):uint()
  local segments = cursor:take(4, f.ask_segments):uint()
  cursor:reserve(4, f.record_reserved)
  local offset = cursor:take(8, f.ask_offset):uint64()
  local text = string.format("transfer=%d %s=%d off=%s len=%d+%d*%d", transfer, fetched and "request" or "grant", number,
    tostring(offset), rest, segments, segment)
  local name = not fetched and link.names[number]
  if name then
    cursor.tree:add(f.export, name):set_generated()
    text = text .. string.format(" (%s)", name)
  end
  -- Each factor has 32 bits, so this doesn't overflow.
  local length = UInt64(segment) * UInt64(segments) + UInt64(rest)
  local finish = offset + length
  if segment == 0 or segments == 0 then
    return cursor:flag(expert.malformed, "A transfer of nothing")
  elseif finish < offset then
    return cursor:flag(expert.malformed, "Offset and length exceed 64 bits")
  end
  if notifies then
    if not cursor:has(NOTIFY_LEN, "notification") then return end
    local tag = cursor:take(4, f.ask_tag):uint()
    cursor:reserve(4, f.record_reserved)
    local total = cursor:take(8, f.ask_total):uint64()
    if total < length or total > finish then
      return cursor:flag(expert.malformed, "The whole send is shorter than this transfer, or begins before the export")
    end
    text = text .. " notify tag=" .. tag
  end
  if not cursor.ok or not cursor:has(rest, "rest") then return end
  if rest > 0 then cursor:take(rest, f.ask_data) end
  return text
end

parse_record[BULK_GRANTED] = function(cursor)
  if not cursor:has(15, "BULK_GRANTED") then return end
  cursor:reserve(3, f.record_reserved)
  local transfer = cursor:take(4, f.bulk_transfer):uint()
  local grant = cursor:take(4, f.bulk_grant):uint()
  cursor:reserve(4, f.record_reserved)
  return string.format("transfer=%d bulk=%d", transfer, grant)
end

parse_record[BULK_DECLINED] = function(cursor)
  if not cursor:has(7, "BULK_DECLINED") then return end
  local reason, reason_item = cursor:take(1, f.bulk_reason)
  cursor:reserve(2, f.record_reserved)
  local transfer = cursor:take(4, f.bulk_transfer):uint()
  local meaning = bulk_refusals[reason:uint()]
  if not meaning then
    return cursor:flag(expert.malformed, "Unknown reason to decline " .. reason:uint())
  end
  reason_item:add_proto_expert_info(expert.refused, "A transfer was declined: " .. meaning)
  return string.format("transfer=%d %s", transfer, meaning)
end

parse_record[BULK_LANDED] = function(cursor)
  if not cursor:has(15, "BULK_LANDED") then return end
  cursor:reserve(3, f.record_reserved)
  local grant = cursor:take(4, f.bulk_grant):uint()
  local packets = cursor:take(4, f.bulk_packets):uint()
  cursor:reserve(4, f.record_reserved)
  return string.format("bulk=%d packets=%d", grant, packets)
end

parse_record[BULK_MISSING] = function(cursor)
  if not cursor:has(7, "BULK_MISSING") then return end
  cursor:reserve(1, f.record_reserved)
  local count = cursor:take(2, f.bulk_ranges):uint()
  local grant = cursor:take(4, f.bulk_grant):uint()
  if count < 1 or count > MAX_MISSING then
    return cursor:flag(expert.malformed, "There are 1 to " .. MAX_MISSING .. " ranges, not " .. count)
  end
  if not cursor.ok or not cursor:has(8 * count, "ranges") then return end
  local ranges = {}
  for i = 1, count do
    local first = cursor:take(4, f.bulk_first):uint()
    local finish = cursor:take(4, f.bulk_end):uint()
    if first >= finish then return cursor:flag(expert.malformed, "A range of no segments") end
    ranges[i] = string.format("%d-%d", first, finish - 1)
  end
  return string.format("bulk=%d %s", grant, table.concat(ranges, ","))
end

local function parse_transfer(cursor)
  if not cursor:has(7, "transfer") then return end
  cursor:reserve(3, f.record_reserved)
  return "transfer=" .. cursor:take(4, f.bulk_transfer):uint()
end
parse_record[BULK_DONE] = parse_transfer
parse_record[BULK_CLEARED] = parse_transfer
parse_record[BULK_CANCEL] = parse_transfer

parse_record[BULK_SENT] = function(cursor)
  if not cursor:has(7, "BULK_SENT") then return end
  cursor:reserve(1, f.record_reserved)
  local questions = cursor:take(2, f.bulk_questions):uint()
  return "bulk=" .. cursor:take(4, f.bulk_grant):uint() .. " questions=" .. questions
end

-- More records than this aren't told of in the Info column.
local MOST_RECORDS = 6

local function parse_records(cursor, link, pinfo, info)
  local packet, count = cursor.tree, 0
  while cursor.ok and cursor:remaining() > 0 and cursor:has(1, "record") do
    local start = cursor.at
    local kind = cursor.tvb(start, 1):uint()
    local name = record_kinds[kind]
    cursor.tree = packet:add(f.record, cursor.tvb(start, 1))
    cursor:take(1, f.record_kind)
    local text
    if name then
      text = parse_record[kind](cursor, link, pinfo)
    else
      cursor:flag(expert.malformed, "Unknown record " .. kind)
    end
    count = count + 1
    if text then cursor.tree:set_text(name .. " " .. text) end
    if count <= MOST_RECORDS then info[#info + 1] = (name or "record " .. kind) .. (text and " " .. text or "") end
    cursor.tree:set_len(cursor.at - start)
  end
  cursor.tree = packet
  if count > MOST_RECORDS then info[#info + 1] = string.format("and %d more", count - MOST_RECORDS) end
end

-- The checksum with what there is to say about it, and that.
local function show_checksum(cursor)
  local tvb = cursor.tvb
  local status = check(tvb)
  local _, checksum = cursor:take(4, f.checksum)
  checksum:append_text(" (" .. checksum_status[status] .. ")")
  checksum:add(f.checksum_status, tvb(0, 4), status):set_generated()
  return checksum, status
end

local function check_checksum(cursor, checksum, status, always)
  if status == CHECKSUM_BAD then
    checksum:add_proto_expert_info(expert.checksum)
    cursor.wrong = cursor.wrong or "wrong checksum"
  elseif status == CHECKSUM_NONE and (always or cursor.tvb(0, 4):uint() ~= 0) then
    cursor:flag(expert.malformed, always and "There must be a checksum" or "There is a checksum, and no flag that says so")
  end
end

-- The header, which is all here. Returns nothing when it says that the rest can't be understood.
local function parse_header(cursor)
  local tvb, header = cursor.tvb, {}
  local checksum, status = show_checksum(cursor)
  local version, version_item = cursor:take(1, f.version)
  local _, kind_item = cursor:take(1, f.kind)
  header.kind = tvb(5, 1):uint()
  if version:uint() ~= VERSION then
    version_item:append_text(" (unknown)")
    return cursor:flag(expert.malformed, "Unknown protocol version " .. version:uint())
  end
  header.flags = tvb(6, 1):uint()
  local flags, flags_item = cursor:take(1, f.flags)
  for _, field in ipairs({ f.ack_now, f.sack, f.checked, f.provisional, f.late, f.throttled, f.flags_reserved }) do
    flags_item:add(field, flags)
  end
  if header.flags > 0x3f then cursor:reserved_set(flags_item) end
  cursor:reserve(1, f.reserved)
  local token_range, token_item = cursor:take(8, f.token)
  header.token, header.token_item = token_range:uint64(), token_item
  header.seq = cursor:take(4, f.seq):uint()
  header.ack = cursor:take(4, f.ack):uint()
  header.credit = cursor:take(2, f.credit):uint()
  cursor:take(2, f.ack_delay)
  cursor:take(2, f.marks)
  cursor:reserve(2, f.reserved2)
  if not kinds[header.kind] or header.kind == BULK then
    kind_item:append_text(" (unknown)")
    return cursor:flag(expert.malformed, "Unknown packet kind " .. header.kind)
  end
  local always = header.kind == HELLO or header.kind == WELCOME or header.kind == RESET
  check_checksum(cursor, checksum, status, always)
  header.good = status ~= CHECKSUM_BAD
  return header
end

-- What other packets tell about this one.
local function show_link(cursor, header, link, pinfo, info)
  if link.receiver then
    header.token_item:append_text(" (of " .. link.receiver .. ")")
    cursor.tree:add(f.receiver, link.receiver):set_generated()
    cursor.tree:add(f.announced_in, link.announced_in):set_generated()
  end
  if header.kind ~= DATA or not header.good or not cursor.ok then return end
  local first = link.first_of[header.seq]
  if not first then
    link.first_of[header.seq] = pinfo.number
  elseif first < pinfo.number then
    cursor.tree:add(f.repeats, first):set_generated():add_proto_expert_info(expert.repeats)
    info[#info + 1] = "[repeated]"
  end
end

-- Whether a number is in a preference such as "7000,7010-7019".
local function is_in(ranges, number)
  for first, last in ranges:gmatch("(%d+)%-?(%d*)") do
    if tonumber(first) <= number and number <= (tonumber(last) or tonumber(first)) then return true end
  end
  return false
end

-- Whether it has the marks of a packet of the bulk lane.
local function is_bulk(tvb)
  return tvb:captured_len() >= BULK_HEADER_LEN and tvb(4, 1):uint() == VERSION and tvb(5, 1):uint() == BULK
end

-- A packet of the bulk lane: a header of its own, and a segment.
local function dissect_bulk(tvb, pinfo, tree)
  pinfo.cols.protocol = "VMMC"
  local item = tree:add(vmmc, tvb())
  local cursor = Cursor.new(tvb, 0, item)
  local checksum, status = show_checksum(cursor)
  cursor:take(1, f.version)
  cursor:take(1, f.kind)
  local flags, flags_item = cursor:take(1, f.flags)
  flags_item:add(f.checked, flags)
  flags_item:add(f.bulk_flags_reserved, flags)
  if band(flags:uint(), 0xfb) ~= 0 then cursor:reserved_set(flags_item) end
  cursor:reserve(1, f.reserved)
  local token_range, token_item = cursor:take(8, f.token)
  local grant = cursor:take(4, f.bulk_grant):uint()
  local segment = cursor:take(4, f.bulk_segment):uint()
  check_checksum(cursor, checksum, status, false)
  show_link(cursor, { kind = BULK, token_item = token_item }, link_of(tostring(token_range:uint64())), pinfo)
  local length = cursor:remaining()
  local here = tvb:captured_len() - cursor.at
  if here > 0 then cursor:take(here, f.bulk_data) end
  local text = string.format("BULK bulk=%d segment=%d len=%d", grant, segment, length)
  if cursor.wrong then text = text .. " [" .. cursor.wrong .. "]" end
  pinfo.cols.info = text
  item:append_text(", " .. text)
  return tvb:captured_len()
end

-- Whether it has all the marks of any other packet. A right checksum is as good as a magic number.
local function looks_right(tvb)
  local kind = tvb:captured_len() >= HEADER_LEN and tvb(4, 1):uint() == VERSION and tvb(5, 1):uint()
  if not kind or not kinds[kind] or kind == BULK then return false end
  if tvb(6, 1):uint() > 0x3f or tvb(7, 1):uint() ~= 0 or tvb(30, 2):uint() ~= 0 then return false end
  local status = check(tvb)
  return status ~= CHECKSUM_BAD and (status ~= CHECKSUM_NONE or tvb(0, 4):uint() == 0)
end

function vmmc.dissector(tvb, pinfo, tree)
  if is_in(vmmc.prefs.bulk_ports, pinfo.dst_port) then
    if is_bulk(tvb) then return dissect_bulk(tvb, pinfo, tree) end
    -- What else comes to that port is seldom a node's.
    if not looks_right(tvb) then return 0 end
  end
  pinfo.cols.protocol = "VMMC"
  local item = tree:add(vmmc, tvb())
  local cursor, info = Cursor.new(tvb, 0, item), {}
  local header = cursor:has(HEADER_LEN, "header") and parse_header(cursor)
  if header then
    local kind = header.kind
    info[1] = kinds[kind]
    if kind == DATA or kind == CLOSE then info[#info + 1] = "seq=" .. header.seq end
    if kind == RESET then info[#info + 1] = "token=" .. hex(header.token) end
    if kind == DATA or kind == CLOSE or kind == ACK then info[#info + 1] = "ack=" .. header.ack end
    if kind == ACK then info[#info + 1] = "credit=" .. header.credit end
    local link = link_of(tostring(header.token))
    show_link(cursor, header, link, pinfo, info)
    local sack = band(header.flags, 0x02) ~= 0
    if sack and (kind == DATA or kind == CLOSE) then
      cursor:flag(expert.malformed, "Only an ACK has selective acknowledgements")
    end
    if cursor.ok then
      if kind == HELLO or kind == WELCOME then
        parse_hello(cursor, kind, header.token, pinfo, info, link)
      elseif kind == DATA then
        parse_records(cursor, link, pinfo, info)
      elseif sack and kind == ACK then
        parse_sack(cursor, header.ack, info)
      elseif (kind == ACK or kind == CLOSE) and cursor:remaining() > 0 then
        cursor:flag(expert.malformed, kinds[kind] .. " has a body")
      end
    end
    if band(header.flags, 0x01) ~= 0 then info[#info + 1] = "ack-now" end
    if band(header.flags, 0x08) ~= 0 then info[#info + 1] = "provisional" end
    if band(header.flags, 0x10) ~= 0 then info[#info + 1] = "late" end
    if band(header.flags, 0x20) ~= 0 then info[#info + 1] = "throttled" end
  end
  local rest = tvb:captured_len() - cursor.at
  if rest > 0 then
    local _, rest_item = cursor:take(rest, f.rest, item)
    if cursor.ok then rest_item:add_proto_expert_info(expert.rest) end
  end
  if cursor.wrong then info[#info + 1] = "[" .. cursor.wrong .. "]" end
  local text = table.concat(info, " ")
  pinfo.cols.info = text
  item:append_text(", " .. text)
  return tvb:captured_len()
end

------------------------------------------------------------------------------------------------------------------ ports

local udp = DissectorTable.get("udp.port")
local ports, bulk_ports = vmmc.prefs.ports, vmmc.prefs.bulk_ports
udp:add(ports, vmmc)
udp:add(bulk_ports, vmmc)

function vmmc.prefs_changed()
  if ports ~= vmmc.prefs.ports or bulk_ports ~= vmmc.prefs.bulk_ports then
    udp:remove(ports, vmmc)
    udp:remove(bulk_ports, vmmc)
    ports, bulk_ports = vmmc.prefs.ports, vmmc.prefs.bulk_ports
    udp:add(ports, vmmc)
    udp:add(bulk_ports, vmmc)
  end
end

-- On other ports: what has all the marks of a packet.
vmmc:register_heuristic("udp", function(tvb, pinfo, tree)
  if is_bulk(tvb) then
    if tvb(6, 1):uint() ~= 0x04 or tvb(7, 1):uint() ~= 0 or check(tvb) == CHECKSUM_BAD then return false end
    dissect_bulk(tvb, pinfo, tree)
    return true
  elseif not looks_right(tvb) then
    return false
  end
  pinfo.conversation = vmmc
  vmmc.dissector(tvb, pinfo, tree)
  return true
end)
