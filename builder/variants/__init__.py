"""One spec with other batch sizes and serving keys: what ``./scripts/tune`` tries, and what it proposes."""
