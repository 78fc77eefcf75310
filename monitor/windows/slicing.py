"""Which slices and which hours a sample belongs to. Pure.

Rules: a client's slice has a digest of its principal and never the name, for it goes to metrics, logs, webhooks and
the ledger.
"""

import hashlib
import re
from collections.abc import Sequence

from gateway.store.records import Sample
from monitor.records import InputError
from monitor.summaries import HOURS_OF_DAY, Slice, SliceKind, parse_slice

Bands = tuple[frozenset[int], ...]

WHOLE_DAY: Bands = (HOURS_OF_DAY,)
# Each band needs samples of its own, and its share of what a reference may hold.
MAX_BANDS = 8
_DIGEST_CHARACTERS = 16
_DIGEST = re.compile(rf"[0-9a-f]{{{_DIGEST_CHARACTERS}}}")
_BAND = re.compile(r"([01][0-9]|2[0-3])-([01][0-9]|2[0-4])")


def source_slice(source: str) -> Slice:
    """The slice of one camera."""
    return Slice(SliceKind.SOURCE, source)


def client_slice(principal: str) -> Slice:
    """The slice of one client."""
    return Slice(SliceKind.CLIENT, client_digest(principal))


def client_digest(principal: str) -> str:
    """What stands for a principal: the first 16 hexadecimal characters of its SHA-256."""
    digest = hashlib.sha256(principal.encode("utf-8", "surrogatepass")).hexdigest()
    return digest[:_DIGEST_CHARACTERS]


def digest_of_client(named: str) -> str:
    """The digest of a client that a person names: by its principal, or by the digest itself."""
    return named if is_client_digest(named) else client_digest(named)


def is_client_digest(text: str) -> bool:
    """Whether a text can be what client_digest gives."""
    return _DIGEST.fullmatch(text) is not None


def parse_named_slice(text: str) -> Slice:
    """The slice that a person names, a client by its principal or its digest. Raises ValueError if it is none."""
    named = parse_slice(text)
    if named.kind is SliceKind.CLIENT:
        return Slice(SliceKind.CLIENT, digest_of_client(named.value))
    return named


def slices_of(*, source: str | None, client: str | None) -> tuple[Slice, ...]:
    """The slices that a sample may belong to, besides all samples."""
    by_source = () if source is None else (source_slice(source),)
    by_client = () if client is None else (client_slice(client),)
    return (*by_source, *by_client)


def slices_of_sample(sample: Sample) -> tuple[Slice, ...]:
    """The slices that a stored sample may belong to, besides all samples; its client is its principal."""
    return slices_of(source=sample.source, client=sample.principal)


def parse_bands(text: str) -> Bands:
    """Bands of hours of the day in UTC, as 06-18,18-06: from the first hour up to but not including the last.

    Raises InputError for what cannot be read, more than MAX_BANDS, and hours that are in two bands.
    """
    bands = tuple(_parse_band(part.strip()) for part in text.split(","))
    if len(bands) > MAX_BANDS:
        raise InputError(f"--hours {text[:80]}: at most {MAX_BANDS} bands")
    if len(frozenset[int]().union(*bands)) != sum(map(len, bands)):
        raise InputError(f"--hours {text}: an hour is in two bands, write them as 06-18,18-06")
    return bands


def describe_hours(hours: Sequence[int] | frozenset[int]) -> str:
    """Hours as people write them: 06-18; several spans with commas between."""
    wanted = sorted(hours)
    if len(wanted) == len(HOURS_OF_DAY):
        return "00-24"
    # Spans begin where the hour before is not in it, so that one around midnight stays one.
    begins = [hour for hour in wanted if (hour - 1) % 24 not in hours]
    spans = []
    for begin in begins:
        end = begin
        while end % 24 in hours:
            end += 1
        spans.append(f"{begin:02}-{end if end == 24 else end % 24:02}")
    return ",".join(spans)


def _parse_band(text: str) -> frozenset[int]:
    match = _BAND.fullmatch(text)
    if match is None:
        raise InputError(f"--hours: {text[:40]!r} is no band of hours, write them as 06-18,18-06")
    begin, end = map(int, match.groups())
    if begin == end:
        raise InputError(f"--hours: {text!r} ends when it begins, the whole day is 00-24")
    length = (end - begin) % 24 or 24
    return frozenset((begin + n) % 24 for n in range(length))
