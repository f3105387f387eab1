"""``mx config``: make a settings file, show what is in force and why, check a file.

Shows and writes; which value wins and what is wrong is decided in ``mx.config``.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mx.cli.options import Invocation, invocation_of
from mx.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from mx.config import SettingRow, Settings

app = typer.Typer(
    help="Settings: make a file, show what is in force and why, check a file.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Form(StrEnum):
    YAML = "yaml"
    TOML = "toml"


class For(StrEnum):
    SERVER = "server"
    CLIENT = "client"
    WORKER = "worker"


ForOption = Annotated[For, typer.Option("--for", help="Whose settings: server, client or worker.")]


@app.command()
def generate(
    ctx: typer.Context,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write. [default: model-express.yaml]")
    ] = None,
    migrate: Annotated[
        Path | None,
        typer.Option("--input", "-i", help="Older file to take over; keys that mx lacks stay as comments."),
    ] = None,
    form: Annotated[
        Form | None, typer.Option("--format", "-f", help="yaml or toml. [default: by the file's name]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    show_diff: Annotated[bool, typer.Option("--show-diff", help="Show what changes.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the file and write nothing.")] = False,
) -> None:
    """Write a file with every setting, its default and what it means.

    Exits 1 if the file exists and --overwrite is not given.
    """
    from mx.config.generate import diff
    from mx.config.generate import generate as make
    from mx.core.redact import redact_text

    out = invocation_of(ctx).out
    form, target = _form_and_target(form, output)
    made = make(form.value, migrate=migrate)
    if show_diff:
        old_file = migrate or target
        changes = diff(_read(old_file), made.text, old_name=str(old_file), new_name=str(target))
        out.talk(redact_text(changes).rstrip() if changes else f"{target}: nothing changes")
    if dry_run:
        document = {
            "success": True,
            "written": None,
            "text": redact_text(made.text),
            "unknown": list(made.unknown),
        }
        out.emit(document, human=lambda: out.write(redact_text(made.text)))
        return
    _write(target, made.text, overwrite=overwrite)
    out.emit(
        {"success": True, "written": str(target), "unknown": list(made.unknown)},
        human=lambda: out.line(f"{target} written"),
    )
    if made.unknown:
        out.say(f"kept as comments, since mx has no such settings: {', '.join(made.unknown)}")


@app.command()
def show(ctx: typer.Context, scope: ForOption = For.SERVER) -> None:
    """Every setting in force, with its value and where it came from."""
    from mx.config import setting_rows, validate_report

    run = invocation_of(ctx)
    settings = _load(run, scope)
    document = {
        "config_file": str(settings.config_file) if settings.config_file else None,
        "scope": settings.scope,
        "settings": [_member(row) for row in setting_rows(settings)],
        "notices": list(settings.notices),
    }
    run.out.emit(document, human=lambda: run.out.write(validate_report(settings)))
    _tell_notices(run, settings)


@app.command()
def validate(ctx: typer.Context, scope: ForOption = For.SERVER) -> None:
    """Check the settings in force. Exits 0, or 1 with everything that is wrong."""
    run = invocation_of(ctx)
    settings = _load(run, scope)
    file = str(settings.config_file) if settings.config_file else None
    run.out.emit(
        {"success": True, "config_file": file, "scope": settings.scope, "notices": list(settings.notices)},
        human=lambda: run.out.line(f"settings are valid ({file or 'no settings file found'})"),
    )
    _tell_notices(run, settings)


def _load(run: Invocation, scope: For) -> Settings:
    return run.settings(scope=scope.value)


def _member(row: SettingRow) -> dict[str, object]:
    return {"key": row.key, "value": row.value, "origin": str(row.origin)}


def _tell_notices(run: Invocation, settings: Settings) -> None:
    for notice in settings.notices:
        run.out.say(f"note: {notice}")


def _form_and_target(form: Form | None, output: Path | None) -> tuple[Form, Path]:
    """The form and the file; the file's ending decides the form, and they may not disagree."""
    if output is None:
        form = form or Form.YAML
        return form, Path(f"model-express.{form}")
    by_name = {".toml": Form.TOML, ".yaml": Form.YAML, ".yml": Form.YAML}.get(output.suffix.lower())
    if form is Form.TOML and by_name is not Form.TOML:
        raise UsageError(f"{output} would be read as YAML", remedy="give the file the ending .toml")
    if form is Form.YAML and by_name is Form.TOML:
        raise UsageError(f"{output} would be read as TOML", remedy="give the file the ending .yaml")
    return by_name or Form.YAML, output


def _read(path: Path) -> str:
    """The text of a file, empty when there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise SettingsError((f"{path} can't be read: {error.strerror or error}",)) from None


def _write(target: Path, text: str, *, overwrite: bool) -> None:
    """Write the whole file or leave the old one: through a neighbour, then a rename."""
    import os
    import tempfile

    if not overwrite and os.path.lexists(target):
        # Exit code 1 is the contract of this command; ConflictError's own would be another.
        raise SettingsError(
            (f"{target} exists",), remedy="--overwrite replaces it, --output writes elsewhere"
        )
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else _new_mode(text)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
                os.fchmod(stream.fileno(), mode)
            os.replace(name, target.resolve() if target.is_symlink() else target)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise SettingsError((f"{target} can't be written: {error.strerror or error}",)) from None


def _new_mode(text: str) -> int:
    """As the shell would make it, but for the owner alone where a migrated password is inside."""
    import os

    from mx.core.redact import redact_text

    if redact_text(text) != text:
        return 0o600
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
