"""What a request may have, in bytes, and how long things may take, in seconds."""

from __future__ import annotations

HEADER_BYTES = 32 << 10  # all of a request's headers
PATH_BYTES = 512
PICTURE_BYTES = 32 << 20  # a file that somebody wants classified
RETRIES = 3
BODY_SECS, SERVER_SECS = 20, 120  # for a client to send what is looked at; for a server to answer
