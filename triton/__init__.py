"""What the server needs: entrypoint, health check, and the CPU server."""
