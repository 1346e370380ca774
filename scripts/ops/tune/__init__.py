"""``tune``: candidates, a scratch server beside the live one, successive halving, a report and a patch."""
