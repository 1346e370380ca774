-- The gate: compares an inference request over HTTP with the contract of the model's live release.
--
-- HAProxy calls it with the body in its buffer (all of it, or at least the JSON part of a binary request) and
-- the contracts in txn.contract. It answers in txn.gate: "ok", or the HTTP status to refuse with; the reason
-- is in txn.why. Nothing else but "ok" lets a request pass, so an error in here refuses.

local json = require("json")

local gate = {}

local BYTES = {UINT8 = 1, INT32 = 4, FP16 = 2, FP32 = 4}
local BOUNDS = {UINT8 = {0, 255}, INT32 = {-2147483648, 2147483647}}

local function refuse(status, why) error({status = status, why = why}, 0) end

local function is(value, kind) return type(value) == "table" and value.kind == kind end

local function quoted(name)
    return '"' .. string.sub(tostring(name), 1, 64) .. '"'
end

-- The members of `object`, every one of which must be among `known`.
local function members(object, what, known)
    if not is(object, "object") then refuse(400, what .. " must be an object") end
    for key in pairs(object.members) do
        if not known[key] then refuse(400, what .. " has the unknown key " .. quoted(key)) end
    end
    return object.members
end

-- Parameters: plain values only, and no word of shared memory, which nobody can register through here.
local function parameters(object, what)
    if object == nil then return {} end
    if not is(object, "object") then refuse(400, "the parameters of " .. what .. " must be an object") end
    for key, value in pairs(object.members) do
        if string.find(key, "^shared_memory") then
            refuse(403, "shared memory cannot be used through the gateway")
        end
        if type(value) == "table" then
            refuse(400, "the parameter " .. quoted(key) .. " must be a string, a number or a boolean")
        end
    end
    return object.members
end

local function whole(value, what, low, high)
    if math.type(value) ~= "integer" or value < low or value > high then
        refuse(400, string.format("%s must be a whole number from %d to %d", what, low, high))
    end
    return value
end

-- The number of elements that `shape` has, after comparing it with the contract's input.
local function elements(shape, wanted, contract, what)
    if not is(shape, "array") then refuse(400, "the shape of " .. what .. " must be an array") end
    if shape.n ~= #wanted.dims + 1 then
        refuse(400, string.format("%s has %d dimensions; the model takes %d with the batch", what, shape.n,
            #wanted.dims + 1))
    end
    local total = whole(shape[1], "the batch of " .. what, 1, contract.max)
    for i, range in ipairs(wanted.dims) do
        total = total * whole(shape[i + 1], string.format("dimension %d of %s", i, what), range[1], range[2])
    end
    return total
end

-- JSON data: as many elements as the shape has, and of the datatype's kind.
local function data(sum, wanted, total, what)
    if not is(sum, "data") then refuse(400, "the data of " .. what .. " must be an array") end
    if wanted.dtype == "FP16" then refuse(400, what .. " is FP16, which JSON cannot carry: send it as binary") end
    if sum.others > 0 then refuse(400, "the data of " .. what .. " must be numbers") end
    local bounds = BOUNDS[wanted.dtype]
    if bounds and sum.floats > 0 then refuse(400, "the data of " .. what .. " must be whole numbers") end
    if bounds and (sum.low < bounds[1] or sum.high > bounds[2]) then
        refuse(400, "the data of " .. what .. " goes beyond " .. wanted.dtype)
    end
    local found = sum.integers + sum.floats
    if found ~= total then
        refuse(400, string.format("the data of %s has %d elements; its shape has %d", what, found, total))
    end
end

local INPUT = {name = true, shape = true, datatype = true, parameters = true, data = true}

-- One input; returns its batch and the bytes that it has behind the JSON part.
local function input(object, contract, seen)
    local m = members(object, "an input", INPUT)
    local wanted = type(m.name) == "string" and contract.inputs[m.name]
    if not wanted then refuse(400, "the model has no input " .. quoted(m.name)) end
    if seen[m.name] then refuse(400, "the input " .. quoted(m.name) .. " comes twice") end
    seen[m.name] = true
    local what = "input " .. quoted(m.name)
    if m.datatype ~= wanted.dtype then
        refuse(400, string.format("%s is %s, not %s", what, wanted.dtype, quoted(m.datatype)))
    end
    local total = elements(m.shape, wanted, contract, what)
    local size = parameters(m.parameters, what).binary_data_size
    if size == nil then
        if m.data == nil then refuse(400, what .. " has no data") end
        data(m.data, wanted, total, what)
        return m.shape[1], 0
    end
    if m.data ~= nil then refuse(400, what .. " has both data and binary_data_size") end
    local bytes = total * BYTES[wanted.dtype]
    if size ~= bytes or math.type(size) ~= "integer" then
        refuse(400, string.format("the binary_data_size of %s must be %d, as its shape says", what, bytes))
    end
    return m.shape[1], bytes
end

local OUTPUT = {name = true, parameters = true}

local function outputs(list, contract)
    if list == nil then return end
    if not is(list, "array") then refuse(400, "outputs must be an array") end
    local seen = {}
    for i = 1, list.n do
        local m = members(list[i], "an output", OUTPUT)
        if type(m.name) ~= "string" or not contract.outputs[m.name] then
            refuse(400, "the model has no output " .. quoted(m.name))
        end
        if seen[m.name] then refuse(400, "the output " .. quoted(m.name) .. " comes twice") end
        seen[m.name] = true
        local asked = parameters(m.parameters, "output " .. quoted(m.name))
        if asked.classification ~= nil then whole(asked.classification, "classification", 1, 2147483647) end
    end
end

local REQUEST = {id = true, inputs = true, outputs = true, parameters = true}

-- Compare a parsed request with one contract. `binary`: the bytes behind the JSON part, nil where the header
-- that announces them is missing.
local function compare(request, contract, binary)
    local m = members(request, "the request", REQUEST)
    if m.id ~= nil and type(m.id) ~= "string" then refuse(400, "id must be a string") end
    parameters(m.parameters, "the request")
    if not is(m.inputs, "array") then refuse(400, "inputs must be an array") end
    local seen, batch, bytes = {}, nil, 0
    for i = 1, m.inputs.n do
        local size, behind = input(m.inputs[i], contract, seen)
        if batch and size ~= batch then refuse(400, "the inputs differ in their batch") end
        batch, bytes = size, bytes + behind
    end
    for name in pairs(contract.inputs) do
        if not seen[name] then refuse(400, "the input " .. quoted(name) .. " is missing") end
    end
    outputs(m.outputs, contract)
    if bytes > 0 and binary == nil then
        refuse(400, "binary data needs the header Inference-Header-Content-Length")
    end
    if bytes ~= (binary or 0) then
        refuse(400, string.format("%d bytes are behind the JSON part; the inputs take %d", binary or 0, bytes))
    end
end

-- A release's contract as the gate uses it, from its text (gateway/contract.py writes it).
local function read(text)
    local list = json.parse((string.gsub(text, "%%(%x%x)", function(h) return string.char(tonumber(h, 16)) end)))
    local contracts = {}
    for i = 1, list.n do
        local m = list[i].members
        local contract = {max = m.max, inputs = {}, outputs = {}}
        for j = 1, m.inputs.n do
            local tensor = m.inputs[j].members
            local dims = {}
            for k = 1, tensor.dims.n do dims[k] = {tensor.dims[k][1], tensor.dims[k][2]} end
            contract.inputs[tensor.name] = {dtype = tensor.dtype, dims = dims}
        end
        for j = 1, m.outputs.n do contract.outputs[m.outputs[j]] = true end
        contracts[i] = contract
    end
    return contracts
end

local known, many = {}, 0

function gate.contracts(text)
    if not known[text] then
        if many > 1000 then known, many = {}, 0 end  -- old releases' contracts are of no use
        known[text], many = read(text), many + 1
    end
    return known[text]
end

-- Check a JSON part against all contracts that are valid just now (one; two while a release goes live).
-- Returns nil when one of them takes it; otherwise the status and the reason by the first, which is the live one.
function gate.check(part, contracts, binary)
    local request, why = json.parse(part)
    if request == nil then return 400, "the JSON part has " .. why end
    local status, reason
    for _, contract in ipairs(contracts) do
        local good, refusal = pcall(compare, request, contract, binary)
        if good then return nil end
        if not status then
            local told = type(refusal) == "table"
            status = told and refusal.status or 400
            reason = told and refusal.why or "the gate could not read the request"
        end
    end
    return status or 403, reason or "the model is not published"
end

-- The JSON part of a body, and the bytes behind it; or nil, the status and the reason.
-- `body`: what is buffered; `length`: Content-Length, or nil; `part`: Inference-Header-Content-Length, or nil;
-- `room`: a body of unknown length that is longer may go on behind what is buffered.
function gate.split(body, length, part, room)
    if length == nil then
        if #body > room then return nil, 411, "a body this long needs a Content-Length" end
        length = #body
    end
    local json_bytes = length
    if part ~= nil then
        if not string.find(part, "^[1-9]%d*$") or #part > 9 then
            return nil, 400, "Inference-Header-Content-Length must be a whole number from 1"
        end
        json_bytes = tonumber(part)
        if json_bytes > length then
            return nil, 400, "Inference-Header-Content-Length is more than the body's length"
        end
    end
    if json_bytes > #body then
        return nil, 413, "the JSON part is too long for the gateway: send tensors as binary"
    end
    if json_bytes == 0 then return nil, 400, "the body is empty" end
    return string.sub(body, 1, json_bytes), part ~= nil and length - json_bytes or nil
end

local function one(headers, name)
    local values = headers[name]
    if values == nil then return nil end
    if values[1] ~= nil then refuse(400, "the header " .. name .. " comes twice") end
    return values[0]
end

local function action(txn)
    local headers = txn.http:req_get_headers()
    local length = one(headers, "content-length")
    local part = one(headers, "inference-header-content-length")
    local text, status, why = gate.split(txn.sf:req_body(), length and tonumber(length), part, txn:get_var("proc.room"))
    local binary
    if text then
        binary = status
        status, why = gate.check(text, gate.contracts(txn:get_var("txn.contract")), binary)
    end
    if status then refuse(status, why) end
end

if core then  -- inside HAProxy; the tests load this file without it too
    core.register_action("gate", {"http-req"}, function(txn)
        local good, refusal = pcall(action, txn)
        if good then
            txn:set_var("txn.gate", "ok")
            return
        end
        local told = type(refusal) == "table"
        if not told then core.Alert("gate: " .. tostring(refusal)) end
        txn:set_var("txn.gate", tostring(told and refusal.status or 400))
        txn:set_var("txn.why", told and refusal.why or "the gate could not read the request")
    end, 0)
end

return gate
