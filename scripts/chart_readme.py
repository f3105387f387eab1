"""Write the table of parameters in the chart's README from the comments of its values.yaml.

    python scripts/chart_readme.py            writes charts/mx/README.md
    python scripts/chart_readme.py --check    exits 1 if it is not current

Each value has a comment ``# -- What it is for.`` right above it. One above a group describes the
group as a whole, and its members are then part of its default.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

CHART = Path(__file__).parents[1] / "charts" / "mx"
BEGIN, END = "<!-- parameters -->", "<!-- /parameters -->"
_MARK = "# -- "


class UndescribedError(Exception):
    """A value without a comment."""


@dataclass(frozen=True, slots=True)
class Parameter:
    path: str
    default: object
    text: str


def parameters(text: str) -> Iterator[Parameter]:
    """Every described value of a values file, in its order. Raises UndescribedError."""
    lines = text.splitlines()
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    yield from _below(root, (), lines)


def _below(node: yaml.MappingNode, path: tuple[str, ...], lines: list[str]) -> Iterator[Parameter]:
    for key, value in node.value:
        here = (*path, key.value)
        above = lines[key.start_mark.line - 1].strip() if key.start_mark.line else ""
        if above.startswith(_MARK):
            default = yaml.safe_load(yaml.serialize(value))
            yield Parameter(".".join(here), default, above.removeprefix(_MARK))
        elif isinstance(value, yaml.MappingNode) and value.value:
            yield from _below(value, here, lines)
        else:
            raise UndescribedError(f"{'.'.join(here)} has no comment that begins with {_MARK!r}")


def table(text: str) -> str:
    rows = ["| parameter | default | |", "|---|---|---|"]
    for one in parameters(text):
        default = json.dumps(one.default, ensure_ascii=False)
        rows.append(f"| `{one.path}` | `{default}` | {one.text.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def rendered(readme: str, values: str) -> str:
    """The README with its table made anew."""
    pattern = re.compile(f"({re.escape(BEGIN)}\n).*?({re.escape(END)})", re.DOTALL)
    made, count = pattern.subn(lambda found: f"{found[1]}{table(values)}\n{found[2]}", readme)
    if count != 1:
        raise SystemExit(f"error: README.md needs {BEGIN} and {END} once, found {count}")
    return made


def main(arguments: list[str]) -> int:
    readme = CHART / "README.md"
    before = readme.read_text(encoding="utf-8")
    try:
        after = rendered(before, (CHART / "values.yaml").read_text(encoding="utf-8"))
    except UndescribedError as error:
        sys.stderr.write(f"error: values.yaml: {error}\n")
        return 1
    if "--check" in arguments:
        if before != after:
            sys.stderr.write("error: charts/mx/README.md is not current: python scripts/chart_readme.py\n")
        return int(before != after)
    readme.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
