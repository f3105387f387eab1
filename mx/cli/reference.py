"""``python -m mx.cli.reference`` prints docs/reference/cli.md, made from the commands themselves.

A test compares the two.
"""

# ruff: noqa: E501  (the prose of a document keeps its own width)

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from typer.core import TyperArgument, TyperGroup, TyperOption

from mx.cli.app import NOUNS, build
from mx.cli.exits import MEANING
from mx.cli.global_options import GlobalOption

if TYPE_CHECKING:
    from typer._click import Command, Context

_HEAD = """\
# Command line

<!-- Made by `python -m mx.cli.reference > docs/reference/cli.md`. Change mx/cli, not this file. -->

    mx [GLOBAL OPTIONS] NOUN [VERB] [OPTIONS] [ARGUMENTS]

- stdout is data, stderr is talk. With `--format json` or `json-pretty` stdout holds exactly one JSON document, also
  when the command fails: `{"success": false, "error": "...", "code": "...", "remedy": "...", "exit_code": N}`.
- Global options are accepted before the noun, after it and after the verb; the one nearest to the end wins. A
  command that has an option of the same spelling keeps its own: `mx config generate -f yaml` is the form of the
  file, `mx events -f` follows (`-f json` is the format there too), and `mx api send ACTION -f FILE` is the payload
  file (`-f human`, `-f json` and `-f json-pretty` stay the format there; a file of such a name is `./json`).
  `--format` is the format everywhere else.
- Tables keep every character in a pipe. On a terminal that is too narrow the last columns are left out, and stderr
  says so. `NO_COLOR` is honoured; no column says anything by colour alone.
- Errors are a line `error: ...` and, where there is something to do, a line `hint: ...`. `MX_DEBUG=1` or `-vvv` adds
  the traceback of a defect.
- Commands that go on until they are stopped (`--watch`, `mx events -f`, `mx transfer top`) write one JSON document a
  line, whatever is asked of `json` and `json-pretty`, and end with 0 at Ctrl-C.
- Completion for bash, zsh and fish, with the names that the server knows: `mx completion`.

## Exit codes

They are stable: a later version may add some, and none ever means something else.

| code | meaning |
|---|---|
"""

_FILTERS = """\
## Filters and order of listings

`--filter` may be given several times; every one must hold. Case does not matter.

| form | meaning |
|---|---|
| `age>90s`, `load<=0.5`, `size>1GiB`, `rank=0` | compare a number, a duration or a size: `=` `!=` `<` `<=` `>` `>=` |
| `status=ready`, `status!=ready` | the whole text |
| `model~llama` | the text contains it |
| `llama`, `!llama` | some column of text contains it, none does |

`--sort FIELD`, `--sort FIELD:desc`: rows without a value come last.
"""


def reference() -> str:
    """The document."""
    root = build()
    ctx = root.make_context("mx", [], resilient_parsing=True)
    parts = [_HEAD + "".join(f"| {code.value} | {meaning} |\n" for code, meaning in MEANING.items())]
    parts.append(f"## Global options\n\n{_options(root, ctx)}")
    parts.append(_FILTERS)
    for noun in NOUNS:
        _, command, _ = root.resolve_command(ctx, [noun.name])
        if command is not None:
            parts += _sections(command, ctx, path=f"mx {noun.name}")
    return "\n".join(parts)


def _sections(command: Command, parent: Context, *, path: str) -> Iterator[str]:
    ctx = command.make_context(command.name, [], parent=parent, resilient_parsing=True)
    if isinstance(command, TyperGroup):
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            if below is not None and not below.hidden:
                yield from _sections(below, ctx, path=f"{path} {name}")
        return
    usage = " ".join(
        param.display_name_raw if param.required else f"[{param.display_name_raw}]"
        for param in command.params
        if isinstance(param, TyperArgument)
    )
    text = inspect.cleandoc(command.help or "")
    yield f"## {path}{f' {usage}' if usage else ''}\n\n{text}\n\n{_options(command, ctx)}".rstrip() + "\n"


def _options(command: Command, ctx: Context) -> str:
    """Arguments and options of a command; the global ones at the root only."""
    rows = []
    for param in command.params:
        if isinstance(param, GlobalOption) and ctx.parent is not None:
            continue
        record = param.get_help_record(ctx) if isinstance(param, (TyperArgument, TyperOption)) else None
        if record is not None:
            name, words = (text.replace("|", "\\|") for text in record)
            rows.append(f"| `{name.strip()}` | {' '.join(words.split())} |\n")
    return "".join(["| | |\n|---|---|\n", *rows]) if rows else ""


if __name__ == "__main__":
    sys.stdout.write(reference())
