"""Exporting: what goes out, what is remembered and recorded of it, and what ends it."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from gateway.audit.entries import encode_event
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.export_cursor import Mark
from gateway.audit.export_lines import ExportFormat
from gateway.audit.keys import load_ledger_signer
from gateway.audit.replaced_files import Disk
from gateway.audit.signing import CheckpointSigner
from gateway.audit.tail import extend_tail, follow_tail
from gateway.commands.audit_export import ExportRequest, export, run_export
from gateway.commands.db import upgrade
from gateway.commands.export_cursor_file import CursorFile
from gateway.commands.export_output import ReaderGoneError, StoppedError
from gateway.commands.keys import create_all
from gateway.commands.opening import opened_store, utc_now
from gateway.errors import AuditUnavailableError, Code, LedgerError, OperatorError
from gateway.sealing.termination import TerminatedError
from gateway.settings import GatewaySettings
from gateway.store.database import write_transaction
from gateway.store.queries.audit import load_audit_records
from tests.gateway.commands.conftest import settings_below
from tests.gateway.ledgers import begin_home

JSONL = ExportRequest(export_format=ExportFormat.JSONL)
FOLLOWING = replace(JSONL, is_following=True)
ENOUGH_FOR_PAGES = 1500


class FakeStop:
    """Told to end by SIGTERM in the wait after its steps, or at once by whoever sets the number."""

    def __init__(self, *steps: Callable[[], None]) -> None:
        self.number: int | None = None
        self.waits: list[float] = []
        self._steps = [*steps]

    def wait(self, seconds: float) -> bool:
        """Take the next step, if there is one."""
        self.waits.append(seconds)
        if self._steps:
            self._steps.pop(0)()
        else:
            self.number = 15
        return self.number is not None


class FakeOutput:
    """Keeps what it gets; before each write it does something, which may raise."""

    def __init__(self, *, before: Callable[[int], None] = lambda _count: None) -> None:
        self.contents: list[bytes] = []
        self.is_gone = False
        self._before = before

    def write(self, content: bytes) -> None:
        """Keep it."""
        self._before(len(self.contents))
        self.contents.append(content)

    def check_reader(self) -> None:
        """See Output."""
        if self.is_gone:
            raise ReaderGoneError

    @property
    def positions(self) -> list[int]:
        """Those of the lines."""
        return [json.loads(line)["position"] for line in b"".join(self.contents).splitlines()]


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    """A home with keys, a database and a ledger without records, which no witness adds to."""
    home = settings_below(tmp_path).model_copy(update={"audit_witness_file": ""})
    create_all(tmp_path / "keys")
    upgrade(home)
    begin_home(home)
    return home


@pytest.fixture
def store(settings: GatewaySettings) -> Iterator[Engine]:
    """Its database."""
    with opened_store(settings) as engine:
        yield engine


@pytest.fixture
def add(store: Engine, settings: GatewaySettings) -> Callable[[int], None]:
    """Add as many records as a gateway of the home would, and sign them."""
    signer = load_ledger_signer(settings.audit_key_file, origin="gateway")

    def run(count: int) -> None:
        event = AuditEvent(
            action=Action.PREDICT, outcome=Outcome.ANSWERED, recorded_at=utc_now(), subject="alice"
        )
        with write_transaction(store) as connection:
            tail = follow_tail(connection, "gateway", None)
            tail = extend_tail(connection, "gateway", tail, [encode_event(event)] * count)
            CheckpointSigner(signer).sign(connection, tail)

    return run


@pytest.fixture
def bodies(store: Engine) -> Callable[[], list[dict[str, Any]]]:
    """What the ledger says of exports."""

    def load() -> list[dict[str, Any]]:
        with store.connect() as connection:
            records = load_audit_records(connection, "gateway", limit=100_000)
        members = [json.loads(record.body) for record in records]
        return [body for body in members if body["action"] == "audit.export"]

    return load


@pytest.fixture
def run(store: Engine, settings: GatewaySettings) -> Callable[..., FakeOutput]:
    """Export to a fake output, which is given back; with a cursor that is only kept here unless one is given."""

    def start(
        request: ExportRequest = JSONL,
        *,
        output: FakeOutput | None = None,
        cursor: CursorFile | None = None,
        stop: FakeStop | None = None,
        **options: Any,
    ) -> FakeOutput:
        output = output or FakeOutput()
        run_export(
            store,
            settings,
            request,
            cursor=cursor or cursor_of(),
            output=output,
            stop=stop or FakeStop(),
            **options,
        )
        return output

    return start


def cursor_of(marks: dict[str, Mark] | None = None) -> CursorFile:
    """A cursor that is kept in memory."""
    return CursorFile(None, marks or {}, disk=Disk())


Add = Callable[[int], None]
Bodies = Callable[[], Sequence[dict[str, Any]]]
Run = Callable[..., FakeOutput]


def test_everything_goes_out_and_the_export_itself(add: Add, run: Run) -> None:
    """The last line is the record that it began."""
    add(5)
    output = run()
    assert [*range(6)] == output.positions
    assert "audit.export" == json.loads(output.contents[-1].splitlines()[-1])["action"]


def test_an_export_is_recorded_at_its_begin_and_end(add: Add, run: Run, bodies: Bodies) -> None:
    """How, from where and where to; how many, and the digest of every byte."""
    add(5)
    output = run(replace(JSONL, output=Path("-"), is_unsigned_included=True))
    begin, end = bodies()
    assert ("admitted", None) == (begin["outcome"], begin["result_count"])
    assert "format=jsonl output=- unsigned=yes start=gateway:0" == begin["detail"]
    assert ("answered", 6) == (end["outcome"], end["result_count"])
    assert "format=jsonl ranges=gateway:0-5" == end["detail"]
    assert sha256(b"".join(output.contents)).hexdigest() == end["result_digest"]
    assert "operating-system" == begin["issuer"] == end["issuer"]


def test_nothing_goes_out_before_the_begin_is_durable(add: Add, run: Run, bodies: Bodies) -> None:
    """Looked at when the first page comes."""
    add(5)
    seen: list[list[str]] = []

    def look(_count: int) -> None:
        seen.append([body["outcome"] for body in bodies()])

    run(output=FakeOutput(before=look))
    assert [["admitted"]] == seen


def refuse_records(store: Engine) -> None:
    """From now on the ledger takes nothing."""
    with write_transaction(store) as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER t BEFORE INSERT ON audit_records BEGIN SELECT RAISE(FAIL, 'no'); END"
        )


def test_an_export_that_cannot_be_recorded_is_none(store: Engine, add: Add, run: Run) -> None:
    """Not a line goes out."""
    add(5)
    refuse_records(store)
    output = FakeOutput()
    with pytest.raises(AuditUnavailableError):
        run(output=output)
    assert [] == output.contents


def test_an_end_that_cannot_be_recorded_is_told(store: Engine, add: Add, run: Run) -> None:
    """The lines are out, and the error says so."""
    add(5)
    output = FakeOutput(before=lambda _count: refuse_records(store))
    with pytest.raises(AuditUnavailableError, match="the lines went out, but the end"):
        run(output=output)
    assert 6 == len(output.positions)


def test_a_cursor_goes_on(add: Add, run: Run) -> None:
    """Without a gap and without a repetition, the records of exports between included."""
    cursor = cursor_of()
    found: list[int] = []
    for count in (3, 0, ENOUGH_FOR_PAGES):
        add(count) if count else None
        found += run(cursor=cursor).positions
    assert [*range(len(found))] == found
    assert 3 + ENOUGH_FOR_PAGES + 5 == len(found)


def disk_full(message: str, *, after: int) -> Callable[[int], None]:
    """An output that fails when it took this many pages."""

    def before(count: int) -> None:
        if count == after:
            raise OperatorError(Code.SETTINGS_INVALID, message)

    return before


def test_an_output_that_fails_leaves_the_cursor_behind(add: Add, run: Run, bodies: Bodies) -> None:
    """At the last page that it took; the next export goes on there, and both are recorded."""
    add(ENOUGH_FOR_PAGES)
    cursor = cursor_of()
    full = FakeOutput(before=disk_full("the disk is full", after=1))
    with pytest.raises(OperatorError, match="the disk is full"):
        run(output=full, cursor=cursor)
    assert {"gateway": 1023} == {origin: mark.position for origin, mark in cursor.marks.items()}
    found = full.positions + run(cursor=cursor).positions
    assert [*range(ENOUGH_FOR_PAGES + 3)] == found
    failed = bodies()[1]
    assert ("failed", "settings_invalid", 1024) == (
        failed["outcome"], failed["code"], failed["result_count"],
    )  # fmt: skip


def test_a_cursor_that_cannot_be_stored_repeats_lines(add: Add, run: Run, tmp_path: Path) -> None:
    """They were out already: never the other way about."""
    add(3)
    file = tmp_path / "no" / "cursor"
    output = FakeOutput()
    with pytest.raises(OperatorError, match="it cannot be replaced"):
        run(output=output, cursor=CursorFile(file, {}, disk=Disk()))
    assert [0, 1, 2, 3] == output.positions == run().positions[:4]


def test_a_reader_that_left_ends_it_quietly(add: Add, run: Run, bodies: Bodies) -> None:
    """As `head` does; the ledger knows."""
    add(5)

    def leave(_count: int) -> None:
        raise ReaderGoneError

    cursor = cursor_of()
    run(output=FakeOutput(before=leave), cursor=cursor)
    assert {} == cursor.marks
    end = bodies()[-1]
    assert ("failed", "client_gone", 0) == (end["outcome"], end["code"], end["result_count"])


def test_a_broken_ledger_ends_it(store: Engine, add: Add, run: Run, bodies: Bodies) -> None:
    """What is good goes out, the rest is told, and the ledger says that the export failed."""
    add(ENOUGH_FOR_PAGES)
    add(5)
    with write_transaction(store) as connection:
        connection.exec_driver_sql(
            "UPDATE audit_records SET body='{\"action\":1}' WHERE position=1200"
        )
    output = FakeOutput()
    with pytest.raises(LedgerError, match="gateway: record 1200 has a body that no release wrote"):
        run(output=output)
    assert [*range(1200)] == output.positions
    end = bodies()[-1]
    assert ("failed", "ledger_broken", 1200) == (end["outcome"], end["code"], end["result_count"])


def test_an_unknown_ledger_is_refused_before_anything(add: Add, run: Run, bodies: Bodies) -> None:
    """Nothing was exported, so nothing is recorded."""
    add(5)
    with pytest.raises(LedgerError, match="has no ledger other, but gateway"):
        run(replace(JSONL, origins=("other",)))
    assert [] == bodies()


def test_since_and_ledgers_are_recorded(add: Add, run: Run, bodies: Bodies) -> None:
    """What was asked for."""
    add(5)
    since = utc_now() + timedelta(days=1)
    output = run(replace(JSONL, origins=("gateway",), since=since))
    assert [] == output.positions
    assert f"since={since:%Y-%m-%dT%H:%M:%S.%fZ}" in bodies()[0]["detail"]


def test_a_signal_ends_it_after_a_page(add: Add, run: Run, bodies: Bodies) -> None:
    """Which is whole and remembered; the exit is a signal's."""
    add(ENOUGH_FOR_PAGES)
    stop, cursor = FakeStop(), cursor_of()

    def tell(_count: int) -> None:
        stop.number = 15

    with pytest.raises(TerminatedError) as caught:
        run(output=FakeOutput(before=tell), stop=stop, cursor=cursor)
    assert 143 == caught.value.code
    assert 1023 == cursor.marks["gateway"].position
    assert ("failed", 1024) == (bodies()[-1]["outcome"], bodies()[-1]["result_count"])


@pytest.mark.parametrize("request_", [JSONL, FOLLOWING])
def test_a_reader_that_takes_nothing_does_not_hold_it(
    add: Add, run: Run, bodies: Bodies, request_: ExportRequest
) -> None:
    """Told to end, it ends; what follows was to be ended so, and what does not was not."""
    add(5)
    stop = FakeStop()

    def stall(_count: int) -> None:
        stop.number = 15
        raise StoppedError

    try:
        run(request_, output=FakeOutput(before=stall), stop=stop)
        is_ended_well = True
    except TerminatedError:
        is_ended_well = False
    assert request_.is_following == is_ended_well
    assert 0 == bodies()[-1]["result_count"]


def test_following_sees_what_is_added(add: Add, run: Run, bodies: Bodies) -> None:
    """Until it is told to end, which is no failure."""
    add(2)
    output = FakeOutput()
    seen: list[int] = []

    def look_and_add() -> None:
        seen.append(len(output.positions))
        add(2)

    stop = FakeStop(look_and_add, look_and_add, lambda: seen.append(len(output.positions)))
    run(replace(FOLLOWING, poll_seconds=0.5), output=output, stop=stop)
    assert [3, 5, 7] == seen
    assert [*range(7)] == output.positions
    assert [0.5] * 4 == stop.waits
    assert ["admitted", "answered"] == [body["outcome"] for body in bodies()]
    assert "follow=yes" in bodies()[0]["detail"]


def test_following_is_recorded_every_day(add: Add, run: Run, bodies: Bodies) -> None:
    """If anything went out; each record says what went out since the one before."""
    now = [0.0]

    def next_day() -> None:
        now[0] += 24 * 3600

    def next_day_with_records() -> None:
        next_day()
        add(3)

    run(FOLLOWING, stop=FakeStop(next_day_with_records, next_day), monotonic=lambda: now[0])
    # The second day had nothing but the record of the first, and after it came the end.
    assert [None, 4, 1, 0] == [body["result_count"] for body in bodies()]
    assert [
        "format=jsonl ranges=gateway:0-3",
        "format=jsonl ranges=gateway:4-4",
        "format=jsonl",
    ] == [body["detail"] for body in bodies()[1:]]


def test_following_outlives_the_database(
    store: Engine,
    add: Add,
    run: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It asks less and less often, says so once, and goes on where it was."""
    add(2)
    file = Path(store.url.database or "")
    away = tmp_path / "away.db"

    def back() -> None:
        away.rename(file)
        add(2)

    stop = FakeStop(
        lambda: (file.rename(away), None)[1],
        lambda: None,
        back,
        lambda: None,
    )
    output = run(FOLLOWING, stop=stop)
    assert [*range(5)] == output.positions
    assert [1.0, 2.0, 4.0, 1.0, 1.0] == stop.waits
    assert 1 == capsys.readouterr().err.count("the database failed (OperationalError); trying on")


def test_a_database_that_fails_ends_what_does_not_follow(
    store: Engine, add: Add, run: Run, tmp_path: Path
) -> None:
    """With a cause, and what to do."""
    add(ENOUGH_FOR_PAGES)
    file = Path(store.url.database or "")
    output = FakeOutput(before=lambda _count: (file.rename(tmp_path / "away.db"), None)[1])
    with pytest.raises(
        AuditUnavailableError, match="failed while the ledger was read; run it again"
    ):
        run(output=output)
    assert 1024 == len(output.positions)


def test_a_reader_that_leaves_a_quiet_ledger_is_noticed(add: Add, run: Run, bodies: Bodies) -> None:
    """Without a write that would tell."""
    add(2)
    output = FakeOutput()

    def leave() -> None:
        output.is_gone = True

    run(FOLLOWING, output=output, stop=FakeStop(leave))
    assert "client_gone" == bodies()[-1]["code"]


def test_the_command_writes_files(settings: GatewaySettings, add: Add, tmp_path: Path) -> None:
    """Lines and a cursor, which the next one goes on from."""
    add(3)
    output, cursor_file = tmp_path / "siem.jsonl", tmp_path / "siem.cursor"
    request = ExportRequest(export_format=ExportFormat.OCSF, output=output, cursor_file=cursor_file)
    export(settings, request)
    export(settings, request)
    events = [json.loads(line) for line in output.read_text(encoding="ascii").splitlines()]
    assert [f"gateway/{position}" for position in range(6)] == [
        event["metadata"]["uid"] for event in events
    ]


def test_the_command_writes_to_standard_output(
    settings: GatewaySettings, add: Add, capfd: pytest.CaptureFixture[str]
) -> None:
    """And nothing else."""
    add(3)
    export(settings, JSONL)
    lines = capfd.readouterr().out.splitlines()
    assert [0, 1, 2, 3] == [json.loads(line)["position"] for line in lines]
