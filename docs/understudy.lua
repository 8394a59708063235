-- Wireshark dissector for traces of understudy (.pcapng, link type USER0).
--
--   wireshark -X lua_script:docs/understudy.lua crypto.pcapng
--   tshark -X lua_script:docs/understudy.lua -r crypto.pcapng -Y 'understudy.kind == "bar-write"'
--
-- To have it always, copy it to the folder "Personal Lua Plugins" of Help, About, Folders. The layout
-- of packets is written down in harness/trace/src/pcapng.rs.

local understudy = Proto("understudy", "Understudy trace")

local VERSION = 1
local HEADER = 40
local NO_QUEUE = 0xffff

local f = {
    version = ProtoField.uint16("understudy.version", "Version"),
    queue = ProtoField.uint16("understudy.queue", "Queue"),
    position = ProtoField.uint64("understudy.position", "Record"),
    address = ProtoField.uint64("understudy.address", "Address", base.HEX),
    length = ProtoField.uint64("understudy.length", "Length"),
    value = ProtoField.uint64("understudy.value", "Value", base.HEX),
    kind = ProtoField.string("understudy.kind", "Kind"),
    register = ProtoField.string("understudy.register", "Register"),
    detail = ProtoField.string("understudy.detail", "Detail"),
    error = ProtoField.string("understudy.error", "Error"),
    data = ProtoField.string("understudy.data", "Data"),
}
understudy.fields = {
    f.version, f.queue, f.position, f.address, f.length, f.value,
    f.kind, f.register, f.detail, f.error, f.data,
}

local failed = ProtoExpert.new(
    "understudy.failed", "The access failed", expert.group.RESPONSE_CODE, expert.severity.WARN)
local malformed = ProtoExpert.new(
    "understudy.malformed", "Not a record of a trace", expert.group.MALFORMED, expert.severity.ERROR)
understudy.experts = { failed, malformed }

-- Without zeros in front.
local function hex(range)
    local digits = range:le_uint64():tohex():gsub("^0+(%x)", "%1")
    return digits
end

-- Text after its length of `size` bytes: the text, its range, and where it ends. Nothing if the
-- packet is too short for it.
local function text(buffer, at, size)
    if at + size > buffer:len() then
        return nil
    end
    local len = buffer(at, size):le_uint()
    local start = at + size
    if start + len > buffer:len() then
        return nil
    end
    if len == 0 then
        return "", nil, start
    end
    return buffer(start, len):string(ENC_UTF_8), buffer(start, len), start + len
end

function understudy.dissector(buffer, pinfo, root)
    pinfo.cols.protocol = "understudy"
    local tree = root:add(understudy, buffer())
    if buffer:len() < HEADER or buffer(0, 2):le_uint() ~= VERSION then
        tree:add_proto_expert_info(malformed)
        return 0
    end
    tree:add_le(f.version, buffer(0, 2))
    tree:add_le(f.position, buffer(8, 8))
    local flags = buffer(4, 4):le_uint()
    local function has(bit)
        return math.floor(flags / 2 ^ bit) % 2 == 1
    end
    local info = {}
    local found = {}
    local at = HEADER
    for _, part in ipairs({
        { "kind", 1 }, { "register", 1 }, { "detail", 2 }, { "error", 2 }, { "data", 2 },
    }) do
        local name, size = part[1], part[2]
        local value, range, after = text(buffer, at, size)
        if value == nil then
            tree:add_proto_expert_info(malformed)
            return 0
        end
        if range then
            tree:add(f[name], range, value)
            found[name] = value
        end
        at = after
    end
    info[#info + 1] = found.kind
    info[#info + 1] = found.register
    if buffer(2, 2):le_uint() ~= NO_QUEUE then
        tree:add_le(f.queue, buffer(2, 2))
        info[#info + 1] = "queue " .. buffer(2, 2):le_uint()
    end
    if has(0) then
        tree:add_le(f.address, buffer(16, 8))
        info[#info + 1] = "@0x" .. hex(buffer(16, 8))
    end
    if has(1) then
        tree:add_le(f.length, buffer(24, 8))
        info[#info + 1] = "+" .. tostring(buffer(24, 8):le_uint64())
    end
    if has(2) then
        tree:add_le(f.value, buffer(32, 8))
        info[#info + 1] = "= 0x" .. hex(buffer(32, 8))
    end
    info[#info + 1] = found.detail
    if has(3) then
        tree:add_proto_expert_info(failed)
        info[#info + 1] = "!! " .. (found.error or "")
    end
    pinfo.cols.info = table.concat(info, " ")
    return buffer:len()
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, understudy)
