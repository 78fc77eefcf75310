"""Which cameras and clients get the slots: nobody's names crowd out another's."""

import pytest

from monitor.windows.choosing import in_turn, order_clients, order_sources


@pytest.mark.parametrize(
    ("clients", "sources", "expected"),
    [
        ("xy", "abcd", "xaybcd"),
        ("xyzu", "a", "xayzu"),
        ("", "ab", "ab"),
        ("x", "", "x"),
    ],
)
def test_each_kind_has_half_of_any_beginning(clients: str, sources: str, expected: str) -> None:
    """And what one does not need the other gets."""
    assert [*expected] == in_turn([*clients], [*sources])


def test_the_commonest_clients_come_first() -> None:
    """Of the large ones."""
    assert ["y", "x"] == order_clients([*"xyyzz", None], large={"x", "y"})


def test_many_names_of_one_client_get_its_share_alone() -> None:
    """Sixteen of mallory's, each commoner than four of another: half of the slots each, in turn."""
    senders = _sent("victim", 120, "cam", 4) + _sent("mallory", 125, "fake", 16)
    ordered = _order(senders, max_slices=16)
    assert {"cam0", "cam1", "cam2", "cam3"} < set(ordered[:8])
    assert [f"fake{n}" for n in (0, 1, 10, 11, 12, 13, 14, 15)] == sorted(
        name for name in ordered if name.startswith("fake")
    )


def test_the_only_client_that_names_cameras_has_all_slots() -> None:
    """Others that name none compete for none."""
    senders = _sent("victim", 120, "cam", 6) + [("other", None)] * 500
    assert 6 == len(_order(senders, max_slices=6))


def test_a_share_is_rounded_up() -> None:
    """Of three slots two each; the first of each before the second of any."""
    senders = _sent("p", 110, "a", 3) + _sent("q", 120, "b", 3)
    assert ["b0", "a0", "b1", "a1"] == _order(senders, max_slices=3)


def test_a_name_that_another_sends_more_of_stays_in_its_clients_share() -> None:
    """Mallory cannot spend his share on his own names and have cam0 counted as one of them."""
    senders = _sent("victim", 120, "cam", 2) + _sent("mallory", 130, "fake", 4)
    senders += [("mallory", "cam0")] * 125
    assert {"cam0", "cam1", "fake0", "fake1"} == set(_order(senders, max_slices=4))


def test_small_clients_are_one_together() -> None:
    """So that a hundred that send little have no hundred shares."""
    senders = _sent("victim", 120, "cam", 4)
    senders += [(f"sybil{n}", f"fake{n % 8}") for n in range(8 * 99)]
    large = {f"cam{n}" for n in range(4)} | {f"fake{n}" for n in range(8)}
    ordered = order_sources(senders, large=large, max_slices=8, min_samples=100)
    assert (4, 4) == (
        sum(name.startswith("cam") for name in ordered),
        sum(name.startswith("fake") for name in ordered),
    )


def _sent(client: str, count: int, name: str, names: int) -> list[tuple[str | None, str | None]]:
    return [(client, f"{name}{n}") for n in range(names) for _ in range(count)]


def _order(senders: list[tuple[str | None, str | None]], *, max_slices: int) -> list[str]:
    large = {source for _, source in senders if source is not None}
    return order_sources(senders, large=large, max_slices=max_slices, min_samples=100)
