"""How requests travel: HTTP, gRPC, shared memory."""
