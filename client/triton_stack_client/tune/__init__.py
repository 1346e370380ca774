"""The measuring half of ``./scripts/tune``: a meter that answers one question at a time, and the report."""
