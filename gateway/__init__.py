"""The gateway: HAProxy with a small Lua gate in front of Triton, configured from the live releases.

    options         its settings, from the environment
    contract        what the live releases take, as the gate reads it
    keys            the file of API keys
    certificate     the user's certificate, or one of our own
    configuration/  haproxy.cfg
    discovery       which Triton servers there are
    servers, pool   those servers in HAProxy's backends, and who has which slot
    shares          what canaries get
    log_address     where the access log goes besides standard output
    haproxy         the HAProxy process: start, reload, change maps, drain
    supervisor      watches the volume, the keys and the certificate, and keeps HAProxy up to date
    lua/            the gate: a strict JSON parser, and the comparison with the contract

Standard library and Python 3.8. Imports nothing of the other parts but models_volume.
"""
