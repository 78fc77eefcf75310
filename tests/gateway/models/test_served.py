"""One loaded version between its first request and its end."""

import asyncio
import logging

import pytest

from gateway.models import served
from tests.gateway.versions import fake_version

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


async def test_a_drain_waits_for_every_request() -> None:
    """And only then ends the threads."""
    fake = fake_version()
    with fake.served.lease():
        with fake.served.lease():
            drain = asyncio.create_task(fake.served.drain(timeout_seconds=60))
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)
        assert not fake.runner.is_closed
    await drain
    assert fake.runner.is_closed


async def test_a_version_that_nobody_holds_drains_at_once() -> None:
    """The usual case."""
    fake = fake_version()
    await fake.served.drain(timeout_seconds=60)
    assert fake.runner.is_closed


async def test_a_drain_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    """What still holds it hears that the runner is closed."""
    fake = fake_version()
    # Whatever other tests have left of the process's logging, and without a clock to race.
    with caplog.at_level(logging.WARNING, logger=served.__name__), fake.served.lease():
        await fake.served.drain(timeout_seconds=0)
    assert fake.runner.is_closed
    assert [record.getMessage() for record in caplog.records if record.name == served.__name__] == [
        "drain_timed_out model=belt@3 leases=1"
    ]


async def test_a_failing_request_gives_its_lease_back() -> None:
    """Else the version would never go."""
    fake = fake_version()
    with pytest.raises(ValueError, match="boom"), fake.served.lease():
        raise ValueError("boom")
    assert fake.served.leases == 0
