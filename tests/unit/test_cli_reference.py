"""docs/reference/cli.md says what the commands say."""

from __future__ import annotations

from pathlib import Path

from mx.cli.reference import reference

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == reference(), (
        "run: python -m mx.cli.reference > docs/reference/cli.md"
    )
