"""The client: talks to Triton over HTTP and gRPC, and proves that it serves what was released."""
