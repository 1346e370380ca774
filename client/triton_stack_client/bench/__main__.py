"""``python -m triton_stack_client.bench``."""

import sys

from triton_stack_client.bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
