"""haproxy.cfg, from the settings and the names of the live models; valid on HAProxy 2.6 to 3.0.

What changes often is not in it: keys and contracts are maps, which the supervisor changes in the running
process. A reload is needed only when a model comes or goes, or when the certificate or the buffer changes.

A request is judged in this order: form, key, limits, path, model, body. The first rule that refuses it
answers, in JSON as Triton does, or as a gRPC status, and its words are in the access log.

    files        the names of the gateway's files
    limits       what a request may have, and how long things may take
    answers      how a request is refused, over HTTP and over gRPC
    access_log   the line of each request
    process      HAProxy as a whole: global, defaults, its own metrics
    frontend     what a request goes through
    allowed      the allow-list of methods and paths
    inference    what is looked at in the body
    backends     the servers, and waiting for one
    document     all of it
"""

from __future__ import annotations

from gateway.configuration.document import text

__all__ = ["text"]
