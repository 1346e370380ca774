-- A strict JSON parser with limits, for the one kind of text the gate reads: an inference request.
--
-- parse(text) returns the value, or nil and why not. Stricter than RFC 8259 where readers differ, since what
-- the gate reads and what Triton reads must be the same: no key twice in one object (compared after
-- unescaping), no NUL in a string, valid UTF-8 only, no number beyond a double, nothing behind the value.
--
-- The elements of a key "data" are counted by kind and not kept: they are the bulk of a request, and the gate
-- compares only how many there are, of what kind and between which bounds.

local json = {}

-- No request that a model can take comes near these.
json.MAX_DEPTH = 16
json.MAX_VALUES = 20000     -- outside "data"
json.MAX_STRING = 4096      -- bytes, unescaped
local LARGEST = 9007199254740992   -- 2^53: beyond it readers round

local find, byte, sub, char = string.find, string.byte, string.sub, string.char

-- An array keeps its length in n; an object its members in a table of their own, so that no key of a client
-- can be mistaken for ours. null is a value of its own: Lua's nil would drop the key.
json.null = setmetatable({}, {__tostring = function() return "null" end})

local ESCAPES = {['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t"}

local function fail(message) error({why = message}, 0) end

local function skip(text, at)
    return (find(text, "[^ \t\r\n]", at)) or #text + 1
end

local function hex4(text, at)
    local digits = string.match(text, "^%x%x%x%x", at)
    if not digits then fail("a \\u escape without four hexadecimal digits") end
    return tonumber(digits, 16)
end

-- The escape whose backslash is at `at`: its text, and where the rest begins.
local function escape(text, at)
    local letter = sub(text, at + 1, at + 1)
    if letter ~= "u" then
        local plain = ESCAPES[letter]
        if not plain then fail("an unknown escape in a string") end
        return plain, at + 2
    end
    local code, after = hex4(text, at + 2), at + 6
    if code >= 0xD800 and code <= 0xDBFF then
        if sub(text, after, after + 1) ~= "\\u" then fail("half of a surrogate pair") end
        local low = hex4(text, after + 2)
        if low < 0xDC00 or low > 0xDFFF then fail("half of a surrogate pair") end
        code, after = 0x10000 + (code - 0xD800) * 0x400 + (low - 0xDC00), after + 6
    elseif code >= 0xDC00 and code <= 0xDFFF then
        fail("half of a surrogate pair")
    elseif code == 0 then
        fail("a NUL in a string")
    end
    return utf8.char(code), after
end

-- The string whose opening quotation mark is at `at`: its text, and where the rest begins.
local function string_at(text, at)
    local from, parts, size = at + 1, {}, 0
    while true do
        local stop = find(text, '["\\%c]', from)
        if not stop then fail("a string without its end") end
        local part = sub(text, from, stop - 1)
        local mark = byte(text, stop)
        if mark ~= 34 and mark ~= 92 and mark ~= 127 then fail("a control character in a string") end
        parts[#parts + 1] = part
        size = size + #part
        if mark == 34 then
            from = stop + 1
            break
        elseif mark == 127 then  -- DEL: %c counts it, JSON does not
            parts[#parts + 1], from = "\127", stop + 1
        else
            parts[#parts + 1], from = escape(text, stop)
            size = size + 1
        end
        if size > json.MAX_STRING then fail("a string of more than " .. json.MAX_STRING .. " bytes") end
    end
    local whole = table.concat(parts)
    if #whole > json.MAX_STRING then fail("a string of more than " .. json.MAX_STRING .. " bytes") end
    -- Lua 5.3 takes the two halves of a surrogate pair for characters.
    if not utf8.len(whole) or find(whole, "\xed[\xa0-\xbf]") then fail("a string that is not UTF-8") end
    return whole, from
end

-- The number at `at`: its value (an integer or a float), and where the rest begins.
local function number_at(text, at)
    local _, stop = find(text, "^-?%d+", at)
    if not stop then fail("something that is no JSON value") end
    local first = byte(text, at) == 45 and at + 1 or at
    if byte(text, first) == 48 and stop > first then fail("a number with a leading zero") end
    local whole = stop
    local _, fraction = find(text, "^%.%d+", stop + 1)
    stop = fraction or stop
    local _, exponent = find(text, "^[eE][+-]?%d+", stop + 1)
    stop = exponent or stop
    if find(text, "^[%w.+-]", stop + 1) then fail("a malformed number") end
    if stop - at > 63 then fail("a number of more than 64 characters") end
    local value = tonumber(sub(text, at, stop))
    if stop == whole then
        -- Beyond 2^53 readers round: such a number is a float here, which no shape takes and FP32 data may.
        if value >= -LARGEST and value <= LARGEST then return math.tointeger(value), stop + 1 end
        value = value + 0.0
    end
    if value == math.huge or value == -math.huge then fail("a number beyond a double") end
    return value + 0.0, stop + 1
end

-- Counts the value at `at` into `sum`; returns where the rest begins.
local function count(text, at, depth, sum)
    local mark = byte(text, at)
    if mark == 91 then  -- [
        if depth >= json.MAX_DEPTH then fail("more than " .. json.MAX_DEPTH .. " levels") end
        at = skip(text, at + 1)
        if byte(text, at) == 93 then return at + 1 end
        local low, high, integers = sum.low, sum.high, 0
        while true do
            -- Most elements are short whole numbers with a comma behind: one look takes such an element.
            local _, stop, digits, sign = find(text, "^(-?%d+)[ \t\r\n]*([,%]])[ \t\r\n]*", at)
            if stop and #digits < 16 and not find(digits, "^-?0%d") then
                local value = math.tointeger(tonumber(digits))
                integers = integers + 1
                if value < low then low = value end
                if value > high then high = value end
                at = stop + 1
                if sign == "]" then break end
            else
                at = skip(text, count(text, at, depth + 1, sum))
                local after = byte(text, at)
                at = skip(text, at + 1)
                if after == 93 then break end
                if after ~= 44 then fail("an array without a comma or its end") end
            end
        end
        sum.integers = sum.integers + integers
        if low < sum.low then sum.low = low end
        if high > sum.high then sum.high = high end
        -- Blanks behind our own ] are skipped already, which does no harm.
        return at
    elseif mark == 34 then
        local _, after = string_at(text, at)
        sum.others = sum.others + 1
        return after
    elseif mark == 116 or mark == 102 or mark == 110 then
        local word = string.match(text, "^%a+", at)
        if word ~= "true" and word ~= "false" and word ~= "null" then fail("something that is no JSON value") end
        sum.others = sum.others + 1
        return at + #word
    elseif mark == 123 then
        fail("an object in data")
    end
    local value, after = number_at(text, at)
    if math.type(value) == "integer" then
        sum.integers = sum.integers + 1
        if value < sum.low then sum.low = value end
        if value > sum.high then sum.high = value end
    else
        sum.floats = sum.floats + 1
    end
    return after
end

local value_at

local function array_at(text, at, depth, state)
    local array, n = {kind = "array"}, 0
    at = skip(text, at + 1)
    if byte(text, at) == 93 then
        array.n = 0
        return array, at + 1
    end
    while true do
        n = n + 1
        array[n], at = value_at(text, at, depth + 1, state)
        at = skip(text, at)
        local mark = byte(text, at)
        if mark == 93 then
            array.n = n
            return array, at + 1
        end
        if mark ~= 44 then fail("an array without a comma or its end") end
        at = skip(text, at + 1)
    end
end

local function object_at(text, at, depth, state)
    local members = {}
    local object = {kind = "object", members = members}
    at = skip(text, at + 1)
    if byte(text, at) == 125 then return object, at + 1 end
    while true do
        if byte(text, at) ~= 34 then fail("an object without a key or its end") end
        local key
        key, at = string_at(text, at)
        if members[key] ~= nil then fail('the key "' .. sub(key, 1, 64) .. '" twice in one object') end
        at = skip(text, at)
        if byte(text, at) ~= 58 then fail("a key without a colon") end
        at = skip(text, at + 1)
        if key == "data" and byte(text, at) == 91 then
            local sum = {kind = "data", integers = 0, floats = 0, others = 0, low = 0, high = 0}
            at = count(text, at, depth + 1, sum)
            members[key] = sum
        else
            members[key], at = value_at(text, at, depth + 1, state)
        end
        at = skip(text, at)
        local mark = byte(text, at)
        if mark == 125 then return object, at + 1 end
        if mark ~= 44 then fail("an object without a comma or its end") end
        at = skip(text, at + 1)
    end
end

local WORDS = {["true"] = true, ["false"] = false, ["null"] = json.null}

value_at = function(text, at, depth, state)
    state.values = state.values + 1
    if state.values > json.MAX_VALUES then fail("more than " .. json.MAX_VALUES .. " values") end
    local mark = byte(text, at)
    if mark == 123 or mark == 91 then
        if depth >= json.MAX_DEPTH then fail("more than " .. json.MAX_DEPTH .. " levels") end
        return (mark == 123 and object_at or array_at)(text, at, depth, state)
    elseif mark == 34 then
        return string_at(text, at)
    elseif mark == nil then
        fail("an early end")
    end
    local word = string.match(text, "^%a+", at)
    if word then
        local value = WORDS[word]
        if value == nil then fail("something that is no JSON value") end
        return value, at + #word
    end
    return number_at(text, at)
end

function json.parse(text)
    local good, value, at = pcall(function()
        local found, after = value_at(text, skip(text, 1), 0, {values = 0})
        after = skip(text, after)
        if after <= #text then fail("something behind the value") end
        return found, after
    end)
    if good then return value end
    -- A mistake of our own is a refusal too: nothing passes that was not read to its end.
    return nil, type(value) == "table" and value.why or "something that cannot be read"
end

return json
