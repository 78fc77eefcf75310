"""SECURITY.md names every row of the standard once, and nothing that is not there."""

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")

# OWASP ASVS 5.0.0, chapters 4, 5, 8, 9, 10.3, 11, 12 and 16: row to level.
LEVELS = {
    "4.1.1": "1", "4.1.2": "2", "4.1.3": "2", "4.1.4": "3", "4.1.5": "3",
    "4.2.1": "2", "4.2.2": "3", "4.2.3": "3", "4.2.4": "3", "4.2.5": "3",
    "4.3.1": "2", "4.3.2": "2",
    "4.4.1": "1", "4.4.2": "2", "4.4.3": "2", "4.4.4": "2",
    "5.1.1": "2",
    "5.2.1": "1", "5.2.2": "1", "5.2.3": "2", "5.2.4": "3", "5.2.5": "3", "5.2.6": "3",
    "5.3.1": "1", "5.3.2": "1", "5.3.3": "3",
    "5.4.1": "2", "5.4.2": "2", "5.4.3": "2",
    "8.1.1": "1", "8.1.2": "2", "8.1.3": "3", "8.1.4": "3",
    "8.2.1": "1", "8.2.2": "1", "8.2.3": "2", "8.2.4": "3",
    "8.3.1": "1", "8.3.2": "3", "8.3.3": "3",
    "8.4.1": "2", "8.4.2": "3",
    "9.1.1": "1", "9.1.2": "1", "9.1.3": "1",
    "9.2.1": "1", "9.2.2": "2", "9.2.3": "2", "9.2.4": "2",
    "10.3.1": "2", "10.3.2": "2", "10.3.3": "2", "10.3.4": "2", "10.3.5": "3",
    "11.1.1": "2", "11.1.2": "2", "11.1.3": "3", "11.1.4": "3",
    "11.2.1": "2", "11.2.2": "2", "11.2.3": "2", "11.2.4": "3", "11.2.5": "3",
    "11.3.1": "1", "11.3.2": "1", "11.3.3": "2", "11.3.4": "3", "11.3.5": "3",
    "11.4.1": "1", "11.4.2": "2", "11.4.3": "2", "11.4.4": "2",
    "11.5.1": "2", "11.5.2": "3",
    "11.6.1": "2", "11.6.2": "3",
    "11.7.1": "3", "11.7.2": "3",
    "12.1.1": "1", "12.1.2": "2", "12.1.3": "2", "12.1.4": "3", "12.1.5": "3",
    "12.2.1": "1", "12.2.2": "1",
    "12.3.1": "2", "12.3.2": "2", "12.3.3": "2", "12.3.4": "2", "12.3.5": "3",
    "16.1.1": "2",
    "16.2.1": "2", "16.2.2": "2", "16.2.3": "2", "16.2.4": "2", "16.2.5": "2",
    "16.3.1": "2", "16.3.2": "2", "16.3.3": "2", "16.3.4": "2",
    "16.4.1": "2", "16.4.2": "2", "16.4.3": "2",
    "16.5.1": "2", "16.5.2": "2", "16.5.3": "2", "16.5.4": "3",
}  # fmt: skip

_TEST = re.compile(r"`(tests/[\w/.]+\.py)::(\w+)`")
_PATH = re.compile(r"`((?:gateway|monitor|docs|tests|scripts)/[\w/.-]+\.\w+)(?:::\w+)?`")
_REASONED = re.compile(r"not applicable: \S.*|not met: \S.*")
_ATTACKERS = (
    "Anonymous, from the network",
    "Holder of a stolen token",
    "Client with a good token",
    "Malicious client behind an address that others share",
    "Operator",
    "Somebody who can read the disk or a backup",
    "Somebody who can write the database",
    "Malicious or failing identity provider",
    "Malicious model file or image",
    "Root on the host, or code inside the process",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table; tests: path and name."""

    id: str
    level: str
    asks: str
    status: str
    tests: tuple[tuple[str, str], ...]


def parse_rows(text: str) -> list[Row]:
    """The rows of the standard in a text, in order."""
    rows = []
    for line in text.splitlines():
        if re.match(r"\| [0-9]+\.[0-9]+\.[0-9]+ \|", line):
            id_, level, asks, status, tests = (
                line.removeprefix("| ").removesuffix(" |").split(" | ")
            )
            rows.append(Row(id_, level, asks, status, tuple(_TEST.findall(tests))))
    return rows


ROWS = parse_rows(TEXT)


@cache
def names_in(path: Path) -> frozenset[str]:
    """The functions and classes of a module."""
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, definitions))


def section_of(heading: str) -> str:
    """What stands below a heading of the third level."""
    _, _, rest = TEXT.partition(f"\n### {heading}\n")
    return re.split(r"\n##+ ", rest)[0]


def test_every_row_of_the_standard_occurs_once_and_in_order() -> None:
    """All rows of the chapters, each with its level, and no other: who reads for one level must not miss a row."""
    assert list(LEVELS.items()) == [(row.id, row.level) for row in ROWS]
    assert 107 == len(LEVELS)


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_a_row_says_what_it_asks_whether_it_is_met_and_by_which_test(row: Row) -> None:
    """What is met has a test, what is not has a reason."""
    assert row.asks
    if row.status.partition(";")[0].startswith("met"):
        assert row.tests
    else:
        assert _REASONED.fullmatch(row.status)


@pytest.mark.parametrize(("path", "name"), sorted(set(_TEST.findall(TEXT))))
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    """A renamed one would leave a claim without a proof."""
    assert name.startswith("test_")
    assert name in names_in(ROOT / path)


@pytest.mark.parametrize("path", sorted(set(_PATH.findall(TEXT))))
def test_a_file_that_is_named_exists(path: str) -> None:
    """Modules, documents and tests."""
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("attacker", _ATTACKERS)
def test_an_attacker_is_stopped_by_something_and_not_by_everything(attacker: str) -> None:
    """Each has modules, proofs, and limits that are said."""
    section = section_of(attacker)
    assert _PATH.search(section)
    assert _TEST.search(section)
    assert re.search(r"^(Not stopped:|Nothing here stops)", section, re.MULTILINE)


@pytest.mark.parametrize("attacker", _ATTACKERS)
def test_whatever_stops_an_attacker_has_a_proof(attacker: str) -> None:
    """No line of a table claims without naming a test."""
    lines = [line for line in section_of(attacker).splitlines() if line.startswith("| ")]
    assert [] == [line for line in lines[1:] if not _TEST.search(line)]


def test_weaknesses_are_reported_privately() -> None:
    """By the repository's own form; an address that nobody reads would be worse than none."""
    assert "through the repository's private security advisory form" in " ".join(TEXT.split())
    assert [] == re.findall(r"\S+@\S+\.\w+", TEXT)


def test_rows_are_read_as_they_stand() -> None:
    """The parser itself: a row, and what is none."""
    text = "| row | level |\n|---|---|\n| 4.1.1 | 1 | types | met; all | `tests/test_x.py::test_y`, `t` |\n"
    expected = Row("4.1.1", "1", "types", "met; all", (("tests/test_x.py", "test_y"),))
    assert [expected] == parse_rows(text)
