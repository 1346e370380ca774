"""``python -m cluster.swarm``: a resolved Compose project (JSON) on standard input becomes a JSON answer.

{"stack": the stack file's text, "notes": [what Swarm does not do], "images": {name here: name in the
registry}}, or {"error": {"found", "remedy"}} with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import sys

from cluster.swarm import stack
from cluster.swarm.options import HOST, INGRESS, Options, StackError
from cluster.swarm.text import text


def main() -> int:
    """0, or 1 where no stack can be made."""
    parser = argparse.ArgumentParser(prog="python -m cluster.swarm")
    parser.add_argument("--registry", required=True)
    parser.add_argument("--tag", default="")
    parser.add_argument("--ports", choices=(INGRESS, HOST), default=INGRESS)
    options = Options(**vars(parser.parse_args()))
    project = json.load(sys.stdin)
    try:
        content, notes = stack.stack(project, options)
    except StackError as e:
        print(json.dumps({"error": {"found": e.found, "remedy": e.remedy}}))
        return 1
    made = {"stack": text(content, notes), "notes": notes, "images": stack.images(project, options)}
    print(json.dumps(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
