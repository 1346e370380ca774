"""``python -m builder``."""

import sys

from models_volume import leash

if __name__ == "__main__":
    leash.hold()  # before the imports, which take a while

    from builder.cli import main

    sys.exit(main())
