"""The monitor's settings: defaults that hold together, every mistake named."""

import pytest

from monitor.records import InputError
from monitor.settings import MonitorSettings, read_settings


def test_an_empty_environment_gives_the_defaults() -> None:
    """Nothing has to be configured on one host; the exposition stays on loopback."""
    settings = read_settings({})
    assert settings == MonitorSettings()
    assert (settings.metrics_host, settings.metrics_port) == ("127.0.0.1", 9465)


def test_variables_are_read_and_other_prefixes_left_alone() -> None:
    """Both processes share one environment file."""
    settings = read_settings({"MONITOR_TICK_SECONDS": "2", "GATEWAY_PORT": "x"})
    assert settings.tick_seconds == 2.0


def test_unknown_names_and_bad_values_are_listed_together() -> None:
    """One run tells all."""
    environment = {"MONITOR_TICK_SECOND": "2", "MONITOR_ALPHA": "7"}
    with pytest.raises(InputError) as caught:
        read_settings(environment)
    lines = str(caught.value).splitlines()
    assert lines[0] == "the configuration is wrong:"
    assert lines[1].startswith("MONITOR_TICK_SECOND: no such setting; did you mean")
    assert lines[2].startswith("MONITOR_ALPHA: ")


def test_settings_that_are_no_more_say_what_to_write_instead() -> None:
    """Ticks are counted no longer."""
    environment = {"MONITOR_RAISE_AFTER_TICKS": "2", "MONITOR_CLEAR_AFTER_TICKS": "3"}
    with pytest.raises(InputError) as caught:
        read_settings(environment)
    lines = str(caught.value).splitlines()
    assert "MONITOR_CLEAR_AFTER_TICKS: no such setting any more; write MONITOR_CLEAR_" in lines[1]
    assert "MONITOR_RAISE_AFTER_TICKS: no such setting any more; write MONITOR_DRIFT_" in lines[2]


def test_a_minimum_that_no_window_reaches_is_refused() -> None:
    """The alarm would be unknown for ever."""
    environment = {"MONITOR_WINDOW_SAMPLES": "50", "MONITOR_MIN_WINDOW_SAMPLES": "51"}
    with pytest.raises(InputError, match="no window could ever be judged"):
        read_settings(environment)


def test_the_database_url_is_not_in_the_repr() -> None:
    """It may hold a password."""
    settings = read_settings({"MONITOR_DATABASE_URL": "postgresql+psycopg://m:hunter2@db/g"})
    assert "hunter2" not in repr(settings)


def test_ignored_features_are_split_at_commas() -> None:
    """Spaces and empty entries mean nothing."""
    settings = MonitorSettings(ignored_features=" width, ,height")
    assert settings.ignored_feature_names() == {"width", "height"}


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"MONITOR_SECURITY_WORKING_HOURS": "at night"}, "write them as mon-fri 07:00-19:00"),
        ({"MONITOR_SECURITY_TIME_ZONE": "Mars/Olympus"}, "no time zone of this system"),
    ],
)
def test_working_hours_that_cannot_be_read_are_refused(
    environment: dict[str, str], message: str
) -> None:
    """Or nobody would be watched at night."""
    with pytest.raises(InputError, match=message):
        read_settings(environment)


def test_lists_of_subjects_are_read() -> None:
    """With or without spaces; empty names nobody."""
    environment = {
        "MONITOR_SECURITY_EXPORTERS": "siem, spare",
        "MONITOR_SECURITY_OFF_HOURS_EXCEPTED": "deployer,",
    }
    settings = read_settings(environment)
    assert {"siem", "spare"} == settings.exporters()
    assert {"deployer"} == settings.off_hours_excepted()
    assert frozenset() == MonitorSettings().exporters()


def test_without_hours_none_are_looked_at() -> None:
    """What is usual is known on the site."""
    assert MonitorSettings().working_hours() is None
    assert read_settings({"MONITOR_SECURITY_WORKING_HOURS": "mon 09:00-17:00"}).working_hours()


def test_webhooks_without_a_secret_are_refused() -> None:
    """Whoever gets a message could not tell who sent it."""
    with pytest.raises(InputError, match="MONITOR_WEBHOOK_SECRET_FILE is not"):
        read_settings({"MONITOR_WEBHOOK_URLS": "https://hooks.example/x"})


def test_webhook_urls_are_not_in_the_repr() -> None:
    """Their paths are often the only thing that keeps others from writing there."""
    environment = {
        "MONITOR_WEBHOOK_URLS": "https://hooks.example/s3cret",
        "MONITOR_WEBHOOK_SECRET_FILE": "webhook.secret",
    }
    assert "s3cret" not in repr(read_settings(environment))
