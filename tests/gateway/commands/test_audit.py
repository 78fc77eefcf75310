"""`gateway audit create`: once, and again for what is missing."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.commands.audit import create
from gateway.settings import GatewaySettings

Ledger = Callable[[], list[dict[str, Any]]]
NOW = datetime(2031, 5, 6, tzinfo=UTC)


def said(settings: GatewaySettings, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of the command."""
    capsys.readouterr()
    create(settings, now=NOW)
    return capsys.readouterr().out.splitlines()


def test_a_new_ledger_is_begun_with_a_record_of_it(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """And its public key is told, once begun and whenever asked again."""
    file = tmp_path / "other.audit"
    changes = {"audit_origin": "other", "audit_emergency_file": file, "audit_witness_file": ""}
    other = settings.model_copy(update=changes)
    first = said(other, capsys)
    assert first[:2] == ["other: begun", f"{file}, which remembers outages: made"]
    assert first[2].startswith("its public key, for whoever checks proofs: other+")
    again = said(other, capsys)
    assert again[:2] == [
        "other: it was begun before",
        f"{file}, which remembers outages: it was made before",
    ]
    assert first[2:] == again[2:]


def test_only_what_is_missing_is_made(
    settings: GatewaySettings, capsys: pytest.CaptureFixture[str], ledger: Ledger
) -> None:
    """On record, for the file that was lost may have held an outage; and nothing once nothing is missing."""
    before = ledger()
    settings.audit_emergency_file.unlink()
    lines = said(settings, capsys)
    assert lines[:2] == [
        "gateway: it was begun before",
        f"{settings.audit_emergency_file}, which remembers outages: made",
    ]
    made = ledger()
    assert before == made[:-1]
    assert ("audit.create", "outages_file=new") == (made[-1]["action"], made[-1]["detail"])
    said(settings, capsys)
    assert made == ledger()
