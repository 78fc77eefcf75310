"""Bursts of refusals: by the address before anybody is known, by the principal after that.

A refused credential has no subject, since nothing of an unverified token is believed: whoever guesses is counted by the
address, whoever is known and asks for what it may not have by issuer and subject. The gateway writes one record a
minute for each address that it has told to slow down; the next one says how many it stands for, perhaps some of other
addresses among them, and counts for as many.
"""

import re
from collections.abc import Sequence

from gateway.audit.events import Outcome
from gateway.errors import Code
from monitor.security.bursts import Burst
from monitor.security.findings import Hit
from monitor.security.seen import SeenRecord

# The first proof of every honest DPoP caller lacks a nonce, and hanging up is no attempt at anything.
_HARMLESS = frozenset({Code.AUTHN_DPOP_NONCE, Code.CLIENT_GONE})
_OF_SUBJECTS = frozenset(
    {Code.AUTHZ_DENIED, Code.AUTHN_STEP_UP, Code.RATE_LIMITED, Code.QUOTA_EXHAUSTED}
)
# As gateway.pipeline writes it. Only in records of this code, whose reason no caller can choose.
_UNRECORDED = re.compile(
    r"address_(?:rate|failures|concurrency); ([1-9][0-9]{0,11}) more before it have no record of their own"
)


class Failures:
    """Bursts by address, over all addresses, and by principal; each may be left out."""

    def __init__(
        self, *, by_address: Burst | None, overall: Burst | None, by_subject: Burst | None
    ) -> None:
        """None: not looked for."""
        self._by_address = by_address
        self._overall = overall
        self._by_subject = by_subject

    def observe(self, record: SeenRecord) -> Sequence[Hit]:
        """What a refused record adds to."""
        if record.outcome != Outcome.REFUSED:
            return ()
        if record.principal is not None:
            if self._by_subject is None or record.code not in _OF_SUBJECTS:
                return ()
            return self._by_subject.add(record.principal, record)
        if record.address is None or record.code in _HARMLESS:
            return ()
        return self._before_authentication(record, record.address)

    def _before_authentication(self, record: SeenRecord, address: str) -> list[Hit]:
        weight = refusals_of(record)
        hits = []
        if self._by_address is not None:
            hits += self._by_address.add(address, record, weight=weight)
        if self._overall is not None:
            hits += self._overall.add("all addresses", record, weight=weight)
        return hits


def refusals_of(record: SeenRecord) -> int:
    """How many refusals a record before authentication stands for, itself among them."""
    if record.code != Code.RATE_LIMITED:
        return 1
    match = _UNRECORDED.fullmatch(record.reason or "")
    return 1 if match is None else 1 + int(match[1])
