"""What a record's `detail` says: name=value pairs, written and read in one form. Pure.

Rules: a value is percent-encoded, so that no text of a caller or an issuer can look like another pair; a list has
commas between its values; a pair without a value is left out. No secret stands here, and what is personal only under
the name of the field that it belongs to, for gateway.audit.pseudonyms.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import quote, unquote

DetailValue = str | int | float | Iterable[str] | None

# RFC 3986 pchar and "/" without what separates: "=" ends a name, "," a value of a list, a space a pair.
_SAFE = "/:@+~-._!$'()*;"


def format_detail(**pairs: DetailValue) -> str | None:
    """The pairs in the order in which they are given; None if all of them are None or empty.

    Numbers are written as Python's %g, or whole. Names are ours: small letters, digits, "_".
    """
    written = [f"{name}={text}" for name, value in pairs.items() if (text := _written(value))]
    return " ".join(written) or None


@lru_cache(maxsize=1024)
def format_factors(acr: str | None, amr: frozenset[str]) -> str | None:
    """How a caller proved who it is, as a record's `authentication` says it: pairs as in a detail, if any are known."""
    return format_detail(acr=acr, amr=sorted(amr))


def parse_detail(text: str | None) -> dict[str, tuple[str, ...]]:
    """The values of each pair of a stored detail, decoded; one where it is no list. What is no pair is left out.

    A text that was cut at its end (it ends in "…") loses its last pair, which may be half of one.
    """
    parts = (text or "").split(" ")
    if parts[-1].endswith("…"):
        del parts[-1]
    found: dict[str, tuple[str, ...]] = {}
    for part in parts:
        name, separator, values = part.partition("=")
        if name and separator:
            found[name] = tuple(unquote(value) for value in values.split(","))
    return found


def replace_values(text: str, replacements: Mapping[str, Iterable[str]]) -> str:
    """The detail with other values for the pairs of these names; the order stays."""
    written = []
    for part in text.split(" "):
        name, separator, _ = part.partition("=")
        is_other = separator and name in replacements
        written.append(f"{name}={_written(replacements[name])}" if is_other else part)
    return " ".join(written)


def _written(value: DetailValue) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return _encoded(value)
    if isinstance(value, (int, float)):
        return f"{value:g}" if isinstance(value, float) else str(value)
    return ",".join(map(_encoded, value))


def _encoded(text: str) -> str:
    return quote(text, safe=_SAFE, errors="surrogatepass")
