"""``python -m triton_stack_client``."""

import sys

from triton_stack_client.cli import main

if __name__ == "__main__":
    sys.exit(main())
