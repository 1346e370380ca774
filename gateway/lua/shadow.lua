-- Copies requests to the shadow service. The request itself never waits for its copy, and never fails by it.
--
-- txn.shadow: how many of a million are copied; which servers are to answer the copy: canaries, and others
-- (gateway/shares.py writes it: "100000;10.0.0.1:8000;10.0.0.2:8000,10.0.0.3:8000").
-- A copy is sent by a task of its own. What would be too many at once, too many bytes, or too long to be here as a
-- whole is dropped; the next copy tells the service how many those were.

local COPIES, BYTES = 8, 8 << 20  -- on their way at once, of each thread
local SECONDS = 2
local flying, bytes = 0, 0
local dropped = {}  -- by model and reason

local function drop(model, reason, count)
    local counts = dropped[model] or {}
    counts[reason] = (counts[reason] or 0) + count
    dropped[model] = counts
end

local function split(text, sign)
    local words = {}
    for word in string.gmatch(text, "[^" .. sign .. "]+") do words[#words + 1] = word end
    return words
end

local function one(list, txn)
    local words = split(list, ",")
    return words[1 + txn.f:rand(#words)]
end

-- Send one copy; true when the service has taken it, or has refused it itself.
local function send(model, head, body)
    local counts = dropped[model] or {}
    dropped[model] = nil
    local told = {}
    for reason, count in pairs(counts) do told[#told + 1] = reason .. "=" .. count end
    local socket = core.tcp()
    socket:settimeout(SECONDS)
    local status
    if socket:connect("unix@shadow.sock") then
        local tells = #told > 0 and "X-Shadow-Dropped: " .. table.concat(told, ",") .. "\r\n" or ""
        if socket:send(head .. tells .. "\r\n") and socket:send(body) then
            status = string.match(socket:receive("*l") or "", "^HTTP/1%.%d (%d+)")
        end
    end
    socket:close()
    if status == "202" or status == "429" then return true end
    for reason, count in pairs(counts) do drop(model, reason, count) end
    return false
end

local function copy(txn)
    local model = txn:get_var("txn.model")
    local share, canaries, others = table.unpack(split(txn:get_var("txn.shadow"), ";"))
    if txn.f:rand(1000000) >= tonumber(share) then return end
    local headers = txn.http:req_get_headers()
    local length = tonumber(headers["content-length"] and headers["content-length"][0])
    if length == nil or flying >= COPIES or bytes + length > BYTES then
        drop(model, "busy", 1)
        return
    end
    local body = txn.sf:req_body()
    if #body ~= length then  -- the rest has not arrived, and does not fit in the buffer
        drop(model, "large", 1)
        return
    end
    local part = headers["inference-header-content-length"]
    local head = table.concat({
        "POST /v1/shadow/" .. model .. " HTTP/1.1", "Host: shadow", "Connection: close",
        "Content-Length: " .. length, "X-Shadow-Canary: " .. one(canaries, txn),
        "X-Shadow-Other: " .. one(others, txn),
        part and "Inference-Header-Content-Length: " .. part[0] .. "\r\n" or "",
    }, "\r\n")
    flying, bytes = flying + 1, bytes + length
    core.register_task(function()
        local good, taken = pcall(send, model, head, body)
        flying, bytes = flying - 1, bytes - length
        if not good or not taken then drop(model, "unreachable", 1) end
    end)
end

core.register_action("shadow", {"http-req"}, function(txn)
    local good, why = pcall(copy, txn)
    if not good then core.Warning("shadow: " .. tostring(why)) end
end, 0)
