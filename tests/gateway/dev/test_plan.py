"""What both processes are told, and where they may listen."""

import socket
from pathlib import Path

import pytest

from gateway.dev.home import Layout, layout_of
from gateway.dev.plan import check_ports, free_port, plan_of, url_host
from gateway.errors import SettingsError
from gateway.settings import read_settings


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A home; the process stands above it."""
    monkeypatch.chdir(tmp_path)
    return layout_of(tmp_path / "home")


def test_the_gateway_gets_what_the_home_decides(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over one's own variables, which pass through; every name is a setting."""
    monkeypatch.setenv("GATEWAY_SAMPLE_RATE", "0.5")
    monkeypatch.setenv("GATEWAY_KEKS", "file:/elsewhere")
    monkeypatch.setenv("GATEWAY_METRICS_PORT", "9000")
    environment = plan_of(layout, any_ports=False).gateway
    assert environment["GATEWAY_SAMPLE_RATE"] == "0.5"
    assert environment["GATEWAY_KEKS"] == f"file:{layout.keys / 'kek'}"
    assert (environment["GATEWAY_PORT"], environment["GATEWAY_METRICS_PORT"]) == ("8443", "9000")
    assert read_settings(environment).database_url == layout.database_url


def test_the_monitor_has_defaults_and_watches_what_is_served(layout: Layout) -> None:
    """On the home's database."""
    monitor = plan_of(layout, any_ports=False).monitor
    assert monitor == {
        "MONITOR_AUDIT_KEY_FILE": str(layout.keys / "monitor-ledger.key"),
        "MONITOR_DATABASE_URL": layout.database_url,
        "MONITOR_METRICS_HOST": "127.0.0.1",
        "MONITOR_METRICS_PORT": "9465",
        "MONITOR_MIN_WINDOW_SAMPLES": "30",
        "MONITOR_MODEL_NAME": "conveyor",
        "MONITOR_REPORTS_FOLDER": str(layout.reports),
        "MONITOR_TICK_SECONDS": "2",
        "MONITOR_WITNESS_FOLDER": str(layout.witness),
        "MONITOR_WITNESS_KEY_FILE": str(layout.keys / "witness.key"),
    }


def test_ones_own_monitor_settings_win(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """From .env too, under the real variables; a home decides the database."""
    Path(".env").write_text(
        "MONITOR_METRICS_PORT=9001\nMONITOR_TICK_SECONDS=7\nGATEWAY_MODEL_NAME=belt\n"
    )
    monkeypatch.setenv("MONITOR_TICK_SECONDS", "5")
    monkeypatch.setenv("MONITOR_DATABASE_URL", "sqlite:///elsewhere")
    monitor = plan_of(layout, any_ports=False).monitor
    assert (monitor["MONITOR_METRICS_PORT"], monitor["MONITOR_TICK_SECONDS"]) == ("9001", "5")
    assert monitor["MONITOR_MODEL_NAME"] == "belt"
    assert monitor["MONITOR_DATABASE_URL"] == layout.database_url
    monkeypatch.setenv("MONITOR_MODEL_NAME", "other")
    assert plan_of(layout, any_ports=False).monitor["MONITOR_MODEL_NAME"] == "other"


@pytest.mark.parametrize("name", ["GATEWAY_HOST", "GATEWAY_METRICS_HOST", "MONITOR_METRICS_HOST"])
@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "gateway.example"])
def test_only_loopback_is_listened_on(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, name: str, host: str
) -> None:
    """Keys in the clear and tokens on the screen are for one machine."""
    monkeypatch.setenv(name, host)
    with pytest.raises(SettingsError, match=f"{name} is {host}: for development only 127.0.0.1"):
        plan_of(layout, any_ports=False)
    monkeypatch.setenv(name, "localhost")
    plan_of(layout, any_ports=False)


def test_a_port_that_is_none_is_named(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is made."""
    monkeypatch.setenv("MONITOR_METRICS_PORT", "65536")
    with pytest.raises(SettingsError, match="MONITOR_METRICS_PORT: '65536' is no port"):
        plan_of(layout, any_ports=False)


def test_every_taken_port_is_named(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, and none that is free."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        ports = [one.getsockname()[1], free_port(), other.getsockname()[1]]
        for name, port in zip(
            ("GATEWAY_PORT", "GATEWAY_METRICS_PORT", "MONITOR_METRICS_PORT"), ports, strict=True
        ):
            monkeypatch.setenv(name, str(port))
        with pytest.raises(SettingsError) as caught:
            check_ports(plan_of(layout, any_ports=False))
    lines = caught.value.message.splitlines()
    assert lines[1:3] == [
        f"  127.0.0.1 port {ports[0]} (GATEWAY_PORT): Address already in use",
        f"  127.0.0.1 port {ports[2]} (MONITOR_METRICS_PORT): Address already in use",
    ]
    assert "--any-ports" in lines[3]
    assert len(lines) == 4
    check_ports(plan_of(layout, any_ports=True))


def test_a_host_in_a_url() -> None:
    """IPv6 stands in brackets."""
    assert (url_host("::1"), url_host("localhost")) == ("[::1]", "localhost")
