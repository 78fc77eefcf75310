"""Details are written and read in one form, whatever the values are."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.details import format_detail, parse_detail, replace_values
from gateway.audit.events import MAX_CHARACTERS, printable

NAMES = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1, max_size=8)
VALUES = st.text(min_size=1, max_size=20)


def test_pairs_are_readable() -> None:
    """Digests, addresses of issuers and key ids stand as they are."""
    detail = format_detail(issuer="https://idp.example/realm", added=["k-1", "k_2"], files=3)
    assert "issuer=https://idp.example/realm added=k-1,k_2 files=3" == detail


def test_what_is_not_known_is_left_out() -> None:
    """None, empty texts and empty lists make no pair; without any there is no detail."""
    assert "b=0" == format_detail(a=None, b=0, c="", d=[])
    assert None is format_detail(a=None)


def test_a_share_is_a_number_for_people() -> None:
    """No 0.1 that reads 0.1000000000000000055."""
    assert "share=0.1" == format_detail(share=0.1)


def test_no_value_can_look_like_another_pair() -> None:
    """Spaces, equals signs, commas and line breaks are encoded: key ids are an issuer's to choose."""
    detail = format_detail(issuer="x", added=["a b=c", "d,e", "f\ng"])
    assert "issuer=x added=a%20b%3Dc,d%2Ce,f%0Ag" == detail
    assert {"issuer": ("x",), "added": ("a b=c", "d,e", "f\ng")} == parse_detail(detail)


def test_a_cut_detail_loses_its_last_pair() -> None:
    """Half a digest is none."""
    assert {"a": ("1",)} == parse_detail("a=1 sha256=abcd…")


def test_what_is_no_pair_is_left_out() -> None:
    """Free text of an earlier record, and nothing at all."""
    assert {} == parse_detail("to everybody =x")
    assert {} == parse_detail(None)


def test_values_are_replaced_in_their_place() -> None:
    """Others stay as they were."""
    assert "a=1 b=~x,~y c=3" == replace_values("a=1 b=2 c=3", {"b": ["~x", "~y"]})


@given(st.dictionaries(NAMES, st.lists(VALUES, min_size=1, max_size=4), max_size=6))
def test_what_is_written_is_read_again(pairs: dict[str, list[str]]) -> None:
    """Any text, surrogates included, and nothing in it needs escaping when it is stored."""
    detail = format_detail(**pairs) or ""
    assert detail == printable(detail, max_characters=100_000)
    assert {name: tuple(values) for name, values in pairs.items()} == parse_detail(detail)


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    """Records are somebody else's, and may have been changed."""
    parse_detail(text)


def test_a_long_list_is_bounded_by_the_record() -> None:
    """The limit of the field holds for what is written here too."""
    detail = format_detail(ids=["x" * 100] * 100) or ""
    assert MAX_CHARACTERS["detail"] == len(
        printable(detail, max_characters=MAX_CHARACTERS["detail"])
    )
