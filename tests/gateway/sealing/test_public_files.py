"""Who else can change what this process believes."""

import os

import pytest

from gateway.sealing.public_files import why_changeable


def status(mode: int, owner: int) -> os.stat_result:
    """What stat says of a file with this mode and owner."""
    return os.stat_result((mode, 0, 0, 1, owner, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("owner", [0, os.geteuid()])
@pytest.mark.parametrize("mode", [0o644, 0o755, 0o400])
def test_roots_and_our_own_are_believed(mode: int, owner: int) -> None:
    """As long as nobody else may write."""
    assert why_changeable(status(mode, owner), safe_mode=0o644) is None


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o777])
def test_what_others_may_write_is_not(mode: int) -> None:
    """Group or everybody."""
    why = why_changeable(status(mode, 0), safe_mode=0o644)
    assert why == "can be changed by others; chmod it to 0644"


def test_what_another_user_owns_is_not() -> None:
    """An owner may change the mode at any time."""
    other = os.geteuid() + 1
    why = why_changeable(status(0o644, other), safe_mode=0o644)
    assert why == f"belongs to user {other}; chown it to root or to user {os.geteuid()}"
