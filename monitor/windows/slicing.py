"""Which slices and which hours a sample belongs to. Pure."""

import hashlib
import re
from collections.abc import Sequence

from gateway.store.records import Sample
from monitor.records import InputError
from monitor.summaries import HOURS_OF_DAY, Slice, SliceKind

Bands = tuple[frozenset[int], ...]

WHOLE_DAY: Bands = (HOURS_OF_DAY,)
# Each band needs samples of its own, and its share of what a reference may hold.
MAX_BANDS = 8
# With its kind in front, what Slice.text holds without cutting.
_MAX_VALUE_CHARACTERS = 190
_DIGEST_CHARACTERS = 16
_BAND = re.compile(r"([01][0-9]|2[0-3])-([01][0-9]|2[0-4])")


def source_slice(source: str) -> Slice:
    """The slice of one camera."""
    return Slice(SliceKind.SOURCE, _bounded(source))


def client_slice(principal: str) -> Slice:
    """The slice of one client."""
    return Slice(SliceKind.CLIENT, _bounded(principal))


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


def _bounded(value: str) -> str:
    # Two long names that begin alike must stay two.
    if len(value) <= _MAX_VALUE_CHARACTERS:
        return value
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    kept = _MAX_VALUE_CHARACTERS - _DIGEST_CHARACTERS - 1
    return f"{value[:kept]}~{digest[:_DIGEST_CHARACTERS]}"
