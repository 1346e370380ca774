"""Several servers on one machine, one for each GPU: TRITON_COUNT."""
