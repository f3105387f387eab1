"""What deploy.sh asks of the program ``helm``, done with Helm's own library.

Waiting for pods is left out: the API server of the tests has no nodes.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import yaml
from chart_rendering import Helm, RefusedError, merged


def main() -> int:
    parser = argparse.ArgumentParser(prog="helm")
    parser.add_argument("verb", choices=["upgrade"])
    parser.add_argument("release")
    parser.add_argument("chart", type=Path)
    parser.add_argument("--install", action="store_true", required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--values", type=Path, action="append", default=[])
    parser.add_argument("--dry-run", choices=["server"])
    parser.add_argument("--timeout")
    for switch in ("--skip-crds", "--create-namespace", "--wait"):
        parser.add_argument(switch, action="store_true")
    asked = parser.parse_args()
    values: dict[str, object] = {}
    for file in asked.values:
        values = merged(values, yaml.safe_load(file.read_text(encoding="utf-8")))
    with Helm.pool() as pool:
        try:
            manifests = Helm(pool).install(
                Path(os.environ["KUBECONFIG"]),
                asked.namespace,
                values,
                dry_run=asked.dry_run is not None,
                name=asked.release,
            )
        except RefusedError as error:
            sys.stderr.write(f"Error: {error}\n")
            return 1
    sys.stdout.write(yaml.safe_dump_all(manifests))
    return 0


if __name__ == "__main__":
    sys.exit(main())
