"""What `monitor status` says of the ledgers, with the command that shows the evidence."""

import shlex
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from gateway.audit.events import Action
from gateway.store.database import write_transaction
from monitor.jobs.security_status import describe_ledgers, evidence_command, ledger_lines
from monitor.records import (
    ABOUT_LEDGER,
    LEDGER_ALARM,
    Alarm,
    AlarmState,
    Finding,
    Place,
    Rule,
)
from monitor.security.findings import Hit, merged
from monitor.tables.alarm_queries import save_alarm
from tests.monitor.jobs.security_world import World, add, add_ledgers
from tests.monitor.security.ledger_events import at, call, command, stranger

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def finding(rule: Rule, key: str, *origins: str) -> Finding:
    """One of two seconds."""
    since, until = at(0.25).timestamp(), at(2.75).timestamp()
    places = tuple(Place(origin, 7) for origin in origins or ("gateway",))
    return merged(None, Hit(rule, key, since, until, 2, "twice", places), now=at(9))


SPAN = "--since 2030-04-01T12:00:00Z --until 2030-04-01T12:00:03Z --oldest-first --limit 1000"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            finding(Rule.ADDRESS_FAILURES, "192.0.2.1"),
            f"--address 192.0.2.1 --origin gateway {SPAN}",
        ),
        (finding(Rule.ADDRESS_FAILURES, "2001:db8::/64"), f"--origin gateway {SPAN}"),
        (finding(Rule.ADDRESS_FAILURES, "*"), f"--origin gateway {SPAN}"),
        (
            finding(Rule.OPERATOR_REFUSED, "https://a.test|auth0|7"),
            f"--issuer https://a.test --subject 'auth0|7' --origin gateway {SPAN}",
        ),
        (
            finding(Rule.OPERATOR_REFUSED, "192.0.2.1"),
            f"--address 192.0.2.1 --origin gateway {SPAN}",
        ),
        (finding(Rule.OPERATOR_REFUSED, "2001:db8::/64"), f"--origin gateway {SPAN}"),
        (finding(Rule.OPERATOR_REFUSED, "gateway"), f"--origin gateway {SPAN}"),
        (finding(Rule.TOKEN_SHARED, "i|t", "a", "b"), f"--token t {SPAN}"),
        (
            finding(Rule.CLOCK_JUMPED, "gateway"),
            "--origin gateway --oldest-first --limit 1000",
        ),
    ],
)
def test_the_command_shows_the_records_of_a_finding(
    engine: Engine, found: Finding, expected: str
) -> None:
    """By whom it is about, in the seconds of its records; no key can end its quotes."""
    assert f"gateway audit query {expected}" == evidence_command(found)


def test_a_hostile_key_stays_one_word_of_the_command(engine: Engine) -> None:
    """Callers choose their subjects."""
    words = shlex.split(evidence_command(finding(Rule.AUDIT_READ, "i|x'; rm -rf $HOME #")))
    assert "x'; rm -rf $HOME #" in words


def test_where_a_record_cannot_be_read_the_ledger_is_to_be_verified(engine: Engine) -> None:
    """A query would stop there."""
    assert "gateway audit verify" == evidence_command(finding(Rule.RECORD_UNREADABLE, "gateway"))


def test_a_raised_alarm_is_shown_with_its_findings_and_what_to_do(engine: Engine) -> None:
    """The others are counted."""
    add_ledgers(engine, {"gateway": [call(at(-60))]})
    world = World(engine)
    world.look()
    add(engine, [stranger(at(n)) for n in range(200)], first=1)
    world.look()
    add(engine, [call(at(300))], first=201)
    shown = "\n".join(ledger_lines(world.status()))
    assert "ledgers\n  1 of 13 alarms raised\n  1 records of gateway are unread" in shown
    assert "\n  address_failures firing since 2030-04-02 15:46:40 UTC: 1 finding" in shown
    assert "\n    198.51.100.7: 200 calls refused before anybody was known within" in shown
    assert "at gateway/1, gateway/200" in shown
    assert "gateway audit query --address 198.51.100.7 --origin gateway --since" in shown
    assert "once it is understood: monitor acknowledge address_failures" in shown


def test_the_status_is_told_as_json(engine: Engine) -> None:
    """For scripts."""
    add_ledgers(engine, {"gateway": [call(at(-60))]})
    world = World(engine)
    add(engine, [call(at(0), address="198.51.100.1")], first=1)
    world.look()
    described = describe_ledgers(world.status())
    (found,) = described["findings"]
    assert ("token_shared", "page") == (found["rule"], found["severity"])
    assert [{"origin": "gateway", "position": n} for n in range(2)] == found["evidence"]
    raised = [alarm["name"] for alarm in described["alarms"] if alarm["state"] == "firing"]
    assert ["token_shared"] == raised
    assert {"gateway": 0} == described["unread_records"]


def test_more_findings_than_fit_are_counted(engine: Engine) -> None:
    """Twenty are shown."""
    add_ledgers(engine, {"gateway": [call(at(-60))]})
    world = World(engine)
    world.look()
    add(
        engine,
        [call(at(n // 2), token_id=f"t{n // 2}", address=f"192.0.2.{n % 2}") for n in range(60)],
        first=1,
    )
    world.look(after=timedelta(seconds=1))
    shown = ledger_lines(world.status())
    assert "    10 more: see `monitor status --json`" in shown


def test_the_witnesss_alarm_is_shown_beside_the_rules(engine: Engine) -> None:
    """It is acknowledged in another way."""
    alarm = Alarm(
        model_name=ABOUT_LEDGER,
        name=LEDGER_ALARM,
        state=AlarmState.FIRING,
        since=at(0),
        model_version="",
        diagnosis="gateway was cut",
    )
    with write_transaction(engine) as connection:
        save_alarm(connection, alarm)
    shown = "\n".join(ledger_lines(World(engine).status()))
    assert "ledger firing since 2030-04-01 12:00:00 UTC: gateway was cut" in shown
    assert "monitor witness --help" in shown
    assert "monitor acknowledge" not in shown


def test_without_a_look_nothing_is_said(engine: Engine) -> None:
    """A monitor of a database without ledgers."""
    add_ledgers(engine, {"gateway": [command(at(0), Action.AUDIT_CREATE)]})
    assert [] == ledger_lines(World(engine).status())
