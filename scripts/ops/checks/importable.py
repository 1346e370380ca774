"""Which of the modules named on the command line cannot be imported here: a line each, with the cause.

A program of its own, because it is run by the interpreter that it asks about; so it needs nothing of ours.
"""

import importlib
import sys


def main(names: "list[str]") -> None:
    """Print a line for each module that cannot be imported."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as e:  # noqa: BLE001  (a package may fail in its own way when it is imported)
            cause = e.__cause__ or e.__context__ or e
            print(name if name in str(cause) else f"{name} ({cause})")


if __name__ == "__main__":
    main(sys.argv[1:])
