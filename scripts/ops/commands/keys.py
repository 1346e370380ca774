"""``keys``: add, list or revoke the API keys of the gateway.

A new key is printed once: the file KEYS_FILE holds its hash alone. A running gateway takes every change
within a second, without a reload and without dropping a connection.
"""

from __future__ import annotations

import argparse

from gateway import keys
from gateway.errors import GatewayError
from ops import console
from ops.errors import OpsError
from ops.settings import load


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("action", choices=("add", "list", "revoke"))
    parser.add_argument("name", nargs="?", metavar="NAME", help="the key's name in the access log")


def run(args: argparse.Namespace) -> int:
    """0 when it is done."""
    path = load().keys_file
    if (args.action == "list") != (args.name is None):
        raise OpsError(
            f"keys {args.action} takes {'no name' if args.name else 'the name of a key'}",
            remedy="./scripts/keys add NAME, ./scripts/keys list, ./scripts/keys revoke NAME",
        )
    try:
        if args.action == "add":
            key = keys.add(path, args.name)
            console.answer({"name": args.name, "key": key}, key, as_json=args.json)
            console.progress(f"key {args.name}: keep it, it is not shown again; its hash is in {path}")
        elif args.action == "revoke":
            keys.revoke(path, args.name)
            console.answer({"revoked": args.name}, f"key {args.name} is revoked", as_json=args.json)
        else:
            names = sorted(keys.read(path))
            text = "\n".join(names) or "there is no key yet: ./scripts/keys add NAME"
            console.answer({"keys": names}, text, as_json=args.json)
    except GatewayError as e:
        raise OpsError(e.found, remedy=e.remedy) from e
    return 0
