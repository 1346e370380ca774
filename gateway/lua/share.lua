-- Decides whether a request goes to a canary, and to which.
--
-- txn.share: the canaries' part in millionths, and their names, with commas between (gateway/shares.py writes it).
-- The answer is in txn.pick; without one the server with the fewest requests is taken.

core.register_action("share", {"http-req"}, function(txn)
    local words = {}
    for word in string.gmatch(txn:get_var("txn.share"), "[^,]+") do words[#words + 1] = word end
    if #words > 1 and txn.f:rand(1000000) < tonumber(words[1]) then
        txn:set_var("txn.pick", words[2 + txn.f:rand(#words - 1)])
    end
end, 0)
