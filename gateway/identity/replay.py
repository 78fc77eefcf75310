"""What was used once and must not be used again, for as long as it could be.

Rules:
- Nothing is forgotten early: where there is no room, the new one is refused, or whoever fills the memory could replay.
- Room is shared so that nobody can lock others out: an owner may hold at most as many entries as are free. One alone
  gets half of the room, n greedy ones leave 1/(n + 1) of it to all others. Source: Choudhury and Hahne, Dynamic Queue
  Length Thresholds for Shared-Memory Packet Switches, IEEE/ACM Transactions on Networking 6(2), 1998.
- Not thread-safe: only the event loop's thread may touch it.
"""

from dataclasses import dataclass

from gateway.errors import Code, QuotaError
from gateway.identity.quota_limits import LimitName


@dataclass(slots=True)
class _Owner:
    name: tuple[str, str]
    entries: int = 0


class ReplayCache:
    """At most max_entries digests, each until its last second has passed."""

    def __init__(self, *, max_entries: int) -> None:
        """An empty cache."""
        self._max_entries = max_entries
        self._owners: dict[tuple[str, str], _Owner] = {}
        self._owner_of: dict[bytes, _Owner] = {}
        self._by_last_second: dict[int, list[bytes]] = {}
        self._purged_at = 0

    def __len__(self) -> int:
        """Count of entries, ended ones included until the next look."""
        return len(self._owner_of)

    def use(self, digest: bytes, *, owner: tuple[str, str], last_second: int, now: int) -> bool:
        """Whether the digest is used for the first time, which is noted.

        owner: whom it takes room from. last_second: when it is good for the last time; now: both in seconds since 1970.
        Raises QuotaError where the owner has no room left.
        """
        self._purge(now)
        if digest in self._owner_of:
            return False
        account = self._owners.get(owner) or _Owner(owner)
        if account.entries >= self._max_entries - len(self._owner_of):
            raise self._full(now)
        self._owners[owner] = account
        account.entries += 1
        self._owner_of[digest] = account
        self._by_last_second.setdefault(last_second, []).append(digest)
        return True

    def clear(self) -> None:
        """Forget everything; call it only when nothing that was used can be good again."""
        self._owners.clear()
        self._owner_of.clear()
        self._by_last_second.clear()
        self._purged_at = 0

    def _purge(self, now: int) -> None:
        # At most once a second, since it looks at every second that an entry may end in.
        if now <= self._purged_at:
            return
        self._purged_at = now
        for second in [second for second in self._by_last_second if second < now]:
            for digest in self._by_last_second.pop(second):
                account = self._owner_of.pop(digest)
                account.entries -= 1
                if account.entries == 0:
                    del self._owners[account.name]

    def _full(self, now: int) -> QuotaError:
        seconds = max(1, min(self._by_last_second, default=now) - now + 1)
        return QuotaError(
            Code.RATE_LIMITED,
            "too many DPoP proofs in a short time: send fewer calls, or wait",
            limit=LimitName.DPOP_PROOFS.value,
            retry_after_seconds=seconds,
        )
