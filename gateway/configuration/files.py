"""The names of the files in the gateway's own folder."""

from __future__ import annotations

CONFIG, KEYS, CONTRACTS, LIMITS = "haproxy.cfg", "keys.map", "contracts.map", "limits.map"
CERTIFICATE, ADMIN, MASTER, HOLD = "certificate.pem", "admin.sock", "master.sock", "hold.sock"
SERVERS, SHARES, SHADOWS, SHADOW = "servers.map", "shares.map", "shadows.map", "shadow.sock"
