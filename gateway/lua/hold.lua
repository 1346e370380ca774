-- Waits until a backend has a server again: requests that found none come here instead of failing.
--
-- txn.backend names the backend, txn.until the second after which there is no more waiting. The answer is in
-- txn.up: "yes" or "no". Where only a canary is left, which gets nothing by itself, txn.pick names it.

local function up(backend)
    local canary
    for name, server in pairs(backend.servers) do
        local stats = server:get_stats()
        if name ~= "hold" and string.find(stats["status"], "^UP") then
            if stats["weight"] > 0 then return true end
            canary = name
        end
    end
    return canary ~= nil, canary
end

core.register_action("hold", {"http-req"}, function(txn)
    local backend = core.backends[txn:get_var("txn.backend") or ""]
    local last = tonumber(txn:get_var("txn.until") or 0)
    txn:set_var("txn.up", "no")
    while backend do
        local good, canary = up(backend)
        if good then
            if canary then txn:set_var("txn.pick", canary) end
            txn:set_var("txn.up", "yes")
            return
        end
        if core.now().sec >= last then return end
        core.msleep(100)
    end
end, 0)
