"""Which camera a request's image is of, as its sample says. Pure.

Rules: a claim of the token wins over a header, because the issuer signed it and a header is only the caller's word;
what is not a name is no source, whatever else was sent, so that a broken claim never lets a header take its place;
where a claim is asked for, headers are not read, so that a token without it names no camera either.
"""

from collections.abc import Sequence
from enum import StrEnum

from gateway.store.queries.samples import SOURCE_NAME


class SourceFault(StrEnum):
    """Why what was said of a source is not believed."""

    CLAIM_FORM = "claim_form"
    HEADER_FORM = "header_form"
    HEADER_REPEATED = "header_repeated"


def trusted_header(*, source_header: str, source_claim: str) -> str:
    """The header that names cameras, empty if none does: where a claim does, only signed names are believed."""
    return "" if source_claim else source_header


def choose_source(
    claim: str | None, unverified_headers: Sequence[str]
) -> tuple[str | None, SourceFault | None]:
    """The name of a request's source, or None, and why not where something was said.

    claim: of the verified token, None without one. unverified_headers: every value of the header that names a source.
    """
    if claim is not None:
        return _named(claim, SourceFault.CLAIM_FORM)
    if len(unverified_headers) > 1:
        # Which one a program on the way has checked, nobody can tell.
        return None, SourceFault.HEADER_REPEATED
    if unverified_headers:
        return _named(unverified_headers[0], SourceFault.HEADER_FORM)
    return None, None


def _named(text: str, fault: SourceFault) -> tuple[str | None, SourceFault | None]:
    return (text, None) if SOURCE_NAME.fullmatch(text) else (None, fault)
