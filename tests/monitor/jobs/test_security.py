"""Following the ledgers: each attack is found once, whatever stops in between; a benign day hits nothing."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from gateway.audit.details import format_detail
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.errors import Code
from monitor.jobs import security, security_begin
from monitor.jobs.security_storing import acknowledge
from monitor.records import AlarmState, DatabaseUnavailableError, Rule
from monitor.tables.alarm_queries import list_transitions
from tests.monitor.jobs.security_world import World, add, add_ledgers, begin_ledger
from tests.monitor.security.benign_day import ORIGINS, Day, benign_day
from tests.monitor.security.benign_day import moment as moment_of_day
from tests.monitor.security.ledger_events import ISSUER, at, call, command, event, stranger

ON_SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
EVERY = frozenset(Rule)
HOURS = {
    "security_working_hours": "mon-sun 07:00-19:00",
    "security_time_zone": "Europe/Berlin",
    "security_predictions": 2000,
    "security_exporters": "siem-shipper, spare-shipper",
}


def guesses(count: int = 200, *, begin: float = 0) -> list[AuditEvent]:
    """A burst of failures."""
    return [stranger(at(begin + n)) for n in range(count)]


def shared_token(begin: float = 0) -> list[AuditEvent]:
    """One token from two addresses."""
    return [call(at(begin)), call(at(begin + 1), address="198.51.100.9")]


_REFUSED = {"outcome": Outcome.REFUSED, "action": Action.MODELS_PROMOTE}
_KEYS = format_detail(issuer=ISSUER, added=["k2"], digests=["d2"])
# By what must be found, records that come after an hour of a camera's calls.
ATTACKS: Mapping[Rule, Sequence[AuditEvent]] = {
    Rule.ADDRESS_FAILURES: guesses(),
    Rule.ALL_FAILURES: [
        stranger(
            at(n),
            address=f"192.0.2.{n}",
            code=Code.RATE_LIMITED,
            reason="address_failures; 99 more before it have no record of their own",
        )
        for n in range(50)
    ],
    Rule.SUBJECT_FAILURES: [
        call(at(n), outcome=Outcome.REFUSED, code=Code.AUTHZ_DENIED) for n in range(60)
    ],
    Rule.TOKEN_SHARED: shared_token(),
    Rule.OPERATOR_REFUSED: [call(at(0), code=Code.AUTHZ_DENIED, **_REFUSED)],  # type: ignore[arg-type]
    Rule.OPERATOR_OFF_HOURS: [command(at(40_000), Action.MODELS_RETIRE)],
    Rule.ISSUER_NEW: [call(at(0), issuer="https://new.test", token_id="n")],
    Rule.KEY_NEW: [event(Action.ISSUER_KEYS, Outcome.ANSWERED, at(0), detail=_KEYS)],
    Rule.SAMPLES_VIEWED: [command(at(n), Action.SAMPLES_VIEW) for n in range(100)],
    Rule.AUDIT_READ: [call(at(n), action=Action.AUDIT_READ) for n in range(300)],
    Rule.AUDIT_EXPORTED: [command(at(0), Action.AUDIT_EXPORT, outcome=Outcome.ADMITTED)],
    Rule.PREDICTIONS_MANY: [call(at(n)) for n in range(2000)],
    Rule.LOAD_UNORDERED: [
        event(
            Action.MODELS_LOAD,
            Outcome.ANSWERED,
            at(0),
            model_name="belt",
            model_version="0",
        )
    ],
    Rule.CLOCK_JUMPED: [call(at(9000)), call(at(1))],
    Rule.AUDIT_OUTAGE: [event(Action.AUDIT_OUTAGE, Outcome.FAILED, at(0))],
}


def usual(begin: float = -3600) -> list[AuditEvent]:
    """An issuer whose key is known, and calls of a camera every half a minute."""
    detail = format_detail(issuer=ISSUER, added=["k1"], digests=["d1"])
    keys = event(Action.ISSUER_KEYS, Outcome.ANSWERED, at(begin), detail=detail)
    return [keys, *(call(at(begin + 30 * n)) for n in range(100))]


@pytest.fixture
def world(engine: Engine) -> World:
    """A monitor that has read an hour of nothing suspicious in one ledger."""
    add_ledgers(engine, {"gateway": usual()})
    made = World(engine, **HOURS)
    made.look()
    assert [] == made.found()
    return made


@ON_SQLITE
@pytest.mark.parametrize("rule", ATTACKS)
def test_each_attack_is_found(world: World, rule: Rule) -> None:
    """And nothing else, in the ledger, by alarm and metric."""
    add(world.engine, ATTACKS[rule], first=101)
    world.look()
    world.look(after=timedelta(minutes=5))
    assert [rule] == [found for found, _ in world.found()]
    assert AlarmState.FIRING is world.alarm(rule).state
    assert 1.0 == world.metric("monitor_alarm_active", model="(ledger)", alarm=rule.value, slice="")
    assert 1.0 == world.metric("monitor_security_findings_total", rule=rule.value)
    assert {AlarmState.CLEAR} == {a.state for a in world.status().alarms if a.name != rule}


def test_a_busy_benign_day_raises_no_alarm(engine: Engine) -> None:
    """Written, read and judged as in production, in two halves with a start in between."""
    day = Day(cameras=40, phones=10, homes=4, dpop_callers=3, seconds_between_calls=900)
    ledgers = benign_day(day)
    halves = {origin: len(events) // 2 for origin, events in ledgers.items()}
    add_ledgers(engine, {origin: ledgers[origin][: halves[origin]] for origin in ORIGINS})
    world = World(engine, **HOURS)
    world.seconds = (moment_of_day(23) - at(0)).total_seconds()
    world.look()
    for origin in ORIGINS:
        add(engine, ledgers[origin][halves[origin] :], origin=origin, first=halves[origin])
    world.restart()
    world.look()
    world.look(after=timedelta(hours=1))
    assert [] == world.found()
    assert {AlarmState.CLEAR} == {alarm.state for alarm in world.status().alarms}
    assert 0.0 == world.metric("monitor_security_lag_records")


@ON_SQLITE
def test_a_start_finds_nothing_again_and_goes_on_with_what_it_knew(world: World) -> None:
    """A token seen before it is shared after it; a burst that began before it goes on."""
    add(world.engine, [call(at(0)), *guesses(150)], first=101)
    world.look()
    assert [] == world.found()
    world.restart()
    add(world.engine, [*guesses(50, begin=151), shared_token(200)[1]], first=252)
    world.look()
    expected = [(Rule.ADDRESS_FAILURES, "198.51.100.7"), (Rule.TOKEN_SHARED, f"{ISSUER}|token-1")]
    assert expected == world.found()
    before = world.status().findings
    world.restart()
    world.look()
    assert before == world.status().findings
    assert 0.0 == world.metric("monitor_security_findings_total", rule="token_shared")


@ON_SQLITE
def test_a_load_that_waits_for_its_order_is_found_though_the_monitor_stops(world: World) -> None:
    """And not again by the process after that, acknowledged or not."""
    add(world.engine, ATTACKS[Rule.LOAD_UNORDERED], first=101)
    world.look()
    world.restart()
    world.look()
    assert [] == world.found()
    world.look(after=timedelta(minutes=3))
    assert [(Rule.LOAD_UNORDERED, "belt@0")] == world.found()
    acknowledged(world, Rule.LOAD_UNORDERED)
    world.restart()
    world.look()
    world.look(after=timedelta(minutes=3))
    assert [] == world.found()


@ON_SQLITE
def test_an_order_long_before_the_window_explains_a_load(engine: Engine) -> None:
    """What operators did is read from the whole of the ledgers at each start."""
    model = {"model_name": "belt", "model_version": "1"}
    days_ago = [command(at(-500_000), Action.MODELS_PROMOTE, **model), *usual()]
    add_ledgers(engine, {"gateway": days_ago})
    world = World(engine)
    world.look()
    world.restart()
    loaded = event(Action.MODELS_LOAD, Outcome.ANSWERED, at(0), **model)
    add(engine, [loaded], first=102)
    world.look()
    world.look(after=timedelta(minutes=3))
    assert [] == world.found()


@ON_SQLITE
def test_what_a_look_found_is_stored_with_the_cursor_or_found_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database fails after the rules have seen the records."""
    add(world.engine, guesses(), first=101)

    def fail(*_arguments: object, **_options: object) -> None:
        raise OperationalError("INSERT", None, Exception("disk I/O error"))

    with monkeypatch.context() as patch:
        patch.setattr("monitor.jobs.security_storing.save_findings", fail)
        with pytest.raises(DatabaseUnavailableError):
            world.look()
    unknown = world.metric(
        "monitor_alarm_unknown", model="(ledger)", alarm="address_failures", slice=""
    )
    assert 1.0 == unknown
    assert [] == world.found()
    world.look()
    (found,) = world.status().findings
    assert (Rule.ADDRESS_FAILURES, 200) == (found.rule, found.count)


@ON_SQLITE
def test_a_burst_clears_after_the_quiet_time(world: World) -> None:
    """With both changes in the history of alarms, and why."""
    add(world.engine, guesses(), first=101)
    world.look()
    world.look(after=timedelta(minutes=29))
    assert AlarmState.FIRING is world.alarm(Rule.ADDRESS_FAILURES).state
    world.look(after=timedelta(minutes=1))
    assert AlarmState.CLEAR is world.alarm(Rule.ADDRESS_FAILURES).state
    assert 0.0 == world.metric(
        "monitor_alarm_active", model="(ledger)", alarm="address_failures", slice=""
    )
    with world.engine.connect() as connection:
        history = list_transitions(connection, "(ledger)", newest=100)
    told = [(t.after, t.diagnosis) for t in history if t.name == "address_failures"]
    assert [
        (AlarmState.CLEAR, "nothing was found"),
        (
            AlarmState.FIRING,
            "1 finding, the newest at gateway/101, gateway/300: see `monitor status`",
        ),
        (AlarmState.CLEAR, "it stopped"),
    ] == told


@ON_SQLITE
def test_nobody_is_named_in_logs_or_alarms(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Findings name whom they are about, and are read by who may read the database."""
    caplog.set_level("INFO")
    add(world.engine, [*guesses(), *shared_token(300)], first=101)
    world.look()
    world.look(after=timedelta(hours=100))
    with world.engine.connect() as connection:
        history = list_transitions(connection, "(ledger)", newest=100)
    told = f"{caplog.text} {history} {world.status().alarms}"
    assert "finding_opened rule=token_shared severity=page records=gateway/1, gateway/302" in told
    for name in ("camera-1", "token-1", "198.51.100", "192.0.2"):
        assert name not in told


@ON_SQLITE
def test_a_burst_that_goes_on_is_one_finding(world: World) -> None:
    """Which grows."""
    for number in range(3):
        add(world.engine, guesses(200, begin=200 * number), first=101 + 200 * number)
        world.look(after=timedelta(minutes=5))
    (found,) = world.status().findings
    # A window is ten minutes, and told in tenths.
    assert 600 == found.count
    assert 1.0 == world.metric("monitor_security_findings_total", rule="address_failures")


@ON_SQLITE
def test_what_is_no_burst_stays_until_it_is_acknowledged(world: World) -> None:
    """Then it is closed, says by whom, and is not raised again by the same records."""
    add(world.engine, shared_token(), first=101)
    world.look()
    world.look(after=timedelta(hours=95))
    assert AlarmState.FIRING is world.alarm(Rule.TOKEN_SHARED).state
    acknowledged(world, Rule.TOKEN_SHARED)
    assert AlarmState.CLEAR is world.alarm(Rule.TOKEN_SHARED).state
    world.look()
    assert 0.0 == world.metric(
        "monitor_alarm_active", model="(ledger)", alarm="token_shared", slice=""
    )
    assert [] == world.found()


@ON_SQLITE
def test_what_nobody_acknowledges_is_held_for_the_set_time(world: World) -> None:
    """96 hours of the monitor's clock."""
    add(world.engine, shared_token(), first=101)
    world.look()
    world.look(after=timedelta(hours=96))
    assert [] == world.found()
    assert AlarmState.CLEAR is world.alarm(Rule.TOKEN_SHARED).state


@ON_SQLITE
def test_a_quiet_look_writes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway wants the one write lock."""
    monkeypatch.setattr("monitor.jobs.security_storing.write_transaction", _must_not_be_called)
    world.look(after=timedelta(minutes=1))


def test_attacks_over_two_replicas_are_found(engine: Engine) -> None:
    """Half of the guesses in each ledger, and a token at one address in each; on both databases."""
    add_ledgers(engine, {"a": usual(), "b": usual()})
    world = World(engine)
    world.look()
    add(engine, [*guesses()[::2], shared_token(300)[0]], origin="a", first=101)
    add(engine, [*guesses()[1::2], shared_token(300)[1]], origin="b", first=101)
    world.look()
    expected = [(Rule.ADDRESS_FAILURES, "198.51.100.7"), (Rule.TOKEN_SHARED, f"{ISSUER}|token-1")]
    assert expected == world.found()
    assert {"a", "b"} == {place.origin for f in world.status().findings for place in f.evidence}


@ON_SQLITE
def test_a_ledger_that_begins_later_is_read_from_its_first_record(world: World) -> None:
    """A replica is added, and its issuer is no first one any more."""
    begin_ledger(world.engine, "replica")
    add(world.engine, ATTACKS[Rule.ISSUER_NEW], origin="replica")
    world.look()
    assert [(Rule.ISSUER_NEW, "https://new.test")] == world.found()


@ON_SQLITE
def test_a_record_that_cannot_be_read_is_told_and_passed_by(world: World) -> None:
    """What is behind it is judged."""
    add(world.engine, [call(at(0)), *shared_token(1)], first=101)
    _change(world.engine, "body = '{}'", position=101)
    world.look()
    assert [Rule.RECORD_UNREADABLE, Rule.TOKEN_SHARED] == [rule for rule, _ in world.found()]
    assert "position 101 of gateway" in world.status().findings[0].words


@ON_SQLITE
@pytest.mark.parametrize("value", ["x'ff'", "7", "CAST(x'ff00ff' AS TEXT)"])
def test_a_value_that_no_column_should_have_is_told_and_passed_by(world: World, value: str) -> None:
    """SQLite enforces no types."""
    add(world.engine, [call(at(0)), *shared_token(1)], first=101)
    _change(world.engine, f"body = {value}", position=101)
    world.look()
    assert [Rule.RECORD_UNREADABLE, Rule.TOKEN_SHARED] == [rule for rule, _ in world.found()]
    (found, _) = world.status().findings
    assert [101] == [place.position for place in found.evidence]


@ON_SQLITE
@pytest.mark.parametrize("value", ["'x'", "x'ff'", "CAST(x'ff' AS TEXT)", "-3", "9e99"])
def test_a_record_at_an_impossible_position_is_told_once_and_hides_nothing(
    world: World, value: str
) -> None:
    """It sorts behind every other, or before."""
    add(world.engine, [call(at(0))], first=101)
    _change(world.engine, f"position = {value}", position=101)
    add(world.engine, shared_token(1), first=101)
    for _ in range(2):
        world.look()
        assert [Rule.RECORD_UNREADABLE, Rule.TOKEN_SHARED] == [rule for rule, _ in world.found()]
        assert {"gateway": 0} == world.status().unread
    assert [1, 1] == [finding.count for finding in world.status().findings]


@ON_SQLITE
def test_a_flood_of_ledgers_is_bounded_and_told_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were followed still are."""
    monkeypatch.setattr(security_begin, "MAX_LEDGERS", 3)
    for name in "abcd":
        begin_ledger(world.engine, name)
    add(world.engine, shared_token(1), first=101)
    for _ in range(2):
        world.look()
    assert [Rule.RECORD_UNREADABLE, Rule.TOKEN_SHARED] == [rule for rule, _ in world.found()]
    assert [1, 1] == [finding.count for finding in world.status().findings]
    assert {"gateway", "a", "b"} == world.status().unread.keys()


@ON_SQLITE
@pytest.mark.parametrize("value", ["origin = x'ff'", "created_at = 'never'", "verifier = x'00'"])
def test_a_ledgers_row_of_wrong_types_stops_no_rule(world: World, value: str) -> None:
    """The witness tells of it."""
    begin_ledger(world.engine, "other")
    with world.engine.begin() as connection:
        connection.execute(text(f"UPDATE audit_ledgers SET {value} WHERE origin = 'other'"))
    add(world.engine, shared_token(1), first=101)
    world.look()
    assert [Rule.TOKEN_SHARED] == [rule for rule, _ in world.found()]


@ON_SQLITE
def test_a_record_between_two_positions_is_told_and_passed_by(world: World) -> None:
    """SQLite stores fractions in whole numbers' columns."""
    add(world.engine, [call(at(0)), call(at(0)), *shared_token(1)], first=101)
    _change(world.engine, "position = 101.5", position=102)
    add(world.engine, [call(at(0))], first=102)
    world.look()
    assert [Rule.RECORD_UNREADABLE, Rule.TOKEN_SHARED] == [rule for rule, _ in world.found()]


@ON_SQLITE
@pytest.mark.parametrize("value", ["x'ff'", "CAST(x'ff' AS TEXT)", "7"])
def test_a_time_of_a_wrong_type_does_not_stop_a_start(world: World, value: str) -> None:
    """Further records are read again, and everything is judged."""
    _change(world.engine, f"recorded_at = {value}", position=100)
    world.restart()
    add(world.engine, shared_token(1), first=101)
    world.look()
    assert [(Rule.TOKEN_SHARED, f"{ISSUER}|token-1")] == world.found()


def test_missing_records_are_told(engine: Engine) -> None:
    """In the middle of a ledger."""
    add_ledgers(engine, {"gateway": usual()})
    world = World(engine)
    world.look()
    add(engine, [call(at(0))], first=104)
    world.look()
    assert [(Rule.RECORD_UNREADABLE, "gateway")] == world.found()
    assert "3 records are missing up to here" in world.status().findings[0].words


def test_a_ledger_that_was_cut_is_told_and_followed_from_its_end(engine: Engine) -> None:
    """Once; what is written behind the cut is judged."""
    add_ledgers(engine, {"gateway": usual()})
    world = World(engine)
    world.look()
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM audit_records WHERE position >= 90"))
    world.look()
    assert [(Rule.RECORD_UNREADABLE, "gateway")] == world.found()
    assert "had 11 records more" in world.status().findings[0].words
    add(engine, shared_token(), first=90)
    world.restart()
    world.look()
    assert [Rule.RECORD_UNREADABLE, Rule.TOKEN_SHARED] == [rule for rule, _ in world.found()]
    assert [1] == [f.count for f in world.status().findings if f.rule is Rule.RECORD_UNREADABLE]


@ON_SQLITE
def test_the_first_look_at_an_old_ledger_teaches_what_is_usual(engine: Engine) -> None:
    """Issuers, keys and loads; misuse of the last day is found all the same."""
    old = [call(at(-90_000 + n), issuer=f"https://i{n}.test", token_id=f"i{n}") for n in range(5)]
    loaded = event(
        Action.MODELS_LOAD, Outcome.ANSWERED, at(-100), model_name="belt", model_version="1"
    )
    new = [call(at(-200), issuer="https://second.test", token_id="s"), loaded]
    add_ledgers(engine, {"gateway": [*old, *usual(), *new, *shared_token()]})
    world = World(engine)
    world.look()
    world.look(after=timedelta(minutes=5))
    assert [Rule.TOKEN_SHARED] == [rule for rule, _ in world.found()]
    # The records of more than a day before its end were not read.
    assert 105.0 == world.metric("monitor_security_records_total")


def _load(seconds: float, version: str) -> AuditEvent:
    model = {"model_name": "belt", "model_version": version}
    return event(Action.MODELS_LOAD, Outcome.ANSWERED, at(seconds), **model)


@ON_SQLITE
def test_a_learnt_load_is_known_after_a_start_that_does_not_read_it_again(engine: Engine) -> None:
    """A gateway restarts days later; what another version was promoted over is no longer known."""
    day = 86_400
    model = {"model_name": "belt", "model_version": "2"}
    promoted = command(at(-200), Action.MODELS_PROMOTE, **model)
    add_ledgers(engine, {"gateway": [*usual(), promoted, _load(-100, "1")]})
    world = World(engine)
    world.look()
    add(engine, [call(at(3 * day), token_id="t"), _load(3 * day + 1, "1")], first=103)
    for _ in range(2):
        world.restart()
        world.look(after=timedelta(days=3))
        world.look(after=timedelta(minutes=5))
        assert Rule.LOAD_UNORDERED not in [rule for rule, _ in world.found()]
    model["model_version"] = "3"
    add(engine, [command(at(4 * day), Action.MODELS_PROMOTE, **model)], first=105)
    world.look()
    add(engine, [call(at(6 * day), token_id="t6")], first=106)
    world.look()
    add(engine, [_load(6 * day + 1, "1")], first=107)
    world.restart()
    world.look()
    world.look(after=timedelta(minutes=5))
    assert (Rule.LOAD_UNORDERED, "belt@1") in world.found()


@ON_SQLITE
def test_what_was_loaded_before_the_window_of_the_first_look_is_not_learnt_later(
    engine: Engine,
) -> None:
    """A start knows what the process before it knew, and no more."""
    day = 86_400
    add_ledgers(engine, {"gateway": [_load(-2 * day, "1"), *usual()]})
    world = World(engine)
    world.look()
    world.restart()
    add(engine, [_load(10, "1")], first=102)
    world.look()
    world.look(after=timedelta(minutes=5))
    assert (Rule.LOAD_UNORDERED, "belt@1") in world.found()


@ON_SQLITE
def test_a_rule_that_is_switched_off_lets_go_of_its_alarm(world: World) -> None:
    """It vouches for nothing; its finding is closed when its time comes."""
    add(world.engine, shared_token(), first=101)
    world.look()
    off = World(world.engine, security_token_addresses=0, security_token_certificates=0)
    off.look()
    assert AlarmState.UNKNOWN is off.alarm(Rule.TOKEN_SHARED).state
    assert (
        off.metric("monitor_alarm_active", model="(ledger)", alarm="token_shared", slice="") is None
    )


@ON_SQLITE
def test_a_look_that_ends_early_shows_its_lag_and_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that grows faster than it is read; alarms say that they do not know."""
    monkeypatch.setattr(security, "BATCH_RECORDS", 100)
    add(world.engine, [*guesses(150), *shared_token(900)], first=101)
    look = world.watch.look(world.now, should_stop=lambda: True)
    assert (100, 52) == (look.read, look.lag)
    assert 52.0 == world.metric("monitor_security_lag_records")
    unknown = {"model": "(ledger)", "alarm": "token_shared"}
    assert 1.0 == world.metric("monitor_alarm_unknown", **unknown, slice="")
    assert {"gateway": 52} == world.status().unread
    assert 0 == world.look().lag
    assert 0.0 == world.metric("monitor_alarm_unknown", **unknown, slice="")
    assert [Rule.TOKEN_SHARED] == [rule for rule, _ in world.found()]


@ON_SQLITE
def test_a_long_look_ends_when_its_time_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one follows at once."""
    monkeypatch.setattr(security, "BATCH_RECORDS", 10)
    seconds = iter([0.0, 30.0, 60.0, 90.0])
    add(world.engine, guesses(100), first=101)
    watch = security.SecurityWatch(
        settings=world.settings, metrics=world.metrics, monotonic=lambda: next(seconds)
    )
    # The start reads the 101 records of before again.
    assert 20 == watch.look(world.now).read


@ON_SQLITE
def test_keys_that_are_forgotten_are_counted(engine: Engine) -> None:
    """For whoever sets how many there are room for."""
    add_ledgers(engine, {"gateway": usual()})
    world = World(engine, security_max_keys=100)
    add(engine, [call(at(n), token_id=f"t{n}") for n in range(150)], first=101)
    world.look()
    assert 51.0 == world.metric("monitor_security_forgotten_total", rule="token_shared")
    world.look()
    assert 51.0 == world.metric("monitor_security_forgotten_total", rule="token_shared")


def acknowledged(world: World, rule: Rule) -> None:
    """As the command does."""
    acknowledge(
        world.engine, rule, None, watched=EVERY, why="acknowledged by a test", now=world.now
    )


def _change(engine: Engine, what: str, *, position: int) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE audit_records SET {what} WHERE position = {position}"))


_must_not_be_called: Callable[..., None] = pytest.fail
