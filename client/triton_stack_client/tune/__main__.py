"""``python -m triton_stack_client.tune meter|report``."""

import sys

from triton_stack_client.tune.cli import main

if __name__ == "__main__":
    sys.exit(main())
