"""Which loaded versions answer for which name.

Rules: a name's lineup is replaced as a whole, between two requests; a request takes its leases in the same step of the
event loop in which it reads the lineup, so that no version it is going to use can be drained before.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from gateway.errors import Code, RequestError, ServiceError
from gateway.inference.postprocess import Thresholds
from gateway.inference.runner import InferenceResult
from gateway.models.served import ServedVersion
from gateway.store.records import SampleMode

_ONE = 1 << 64


@dataclass(frozen=True, slots=True)
class Shared:
    """A version that gets a share of the requests, 0 < share <= 1."""

    served: ServedVersion
    share: float


@dataclass(frozen=True, slots=True)
class Lineup:
    """What answers for one name."""

    production: ServedVersion
    canary: Shared | None = None
    shadow: Shared | None = None

    def versions(self) -> tuple[ServedVersion, ...]:
        """All of them, production first."""
        others = [shared.served for shared in (self.canary, self.shadow) if shared is not None]
        return (self.production, *others)


@dataclass(frozen=True, slots=True)
class Answered:
    """What was found, and by which version. failed: the canary whose failure production made good, if there was one."""

    served: ServedVersion
    mode: SampleMode
    result: InferenceResult
    failed: ServedVersion | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The version that a request was given, and production beside it if that is a canary."""

    served: ServedVersion
    production: ServedVersion

    async def detect(
        self, unverified_body: bytes, thresholds: Thresholds, image_size_pixels: int | None
    ) -> Answered:
        """What is in one encoded image.

        A canary's failure costs its caller time and nothing else: production answers in its place. What is wrong with
        the image itself is the caller's to know. Raises as Runner.detect does.
        """
        request = (unverified_body, thresholds, image_size_pixels)
        if self.served is self.production:
            result = await self.production.runner.detect(*request)
            return Answered(self.production, SampleMode.SERVED, result)
        try:
            result = await self.served.runner.detect(*request)
        except (ServiceError, RequestError):  # RequestError: a size that only production has
            result = await self.production.runner.detect(*request)
            return Answered(self.production, SampleMode.SERVED, result, failed=self.served)
        return Answered(self.served, SampleMode.CANARY, result)


class Directory:
    """The lineups by name."""

    def __init__(self) -> None:
        self._lineups: dict[str, Lineup] = {}

    @property
    def lineups(self) -> Mapping[str, Lineup]:
        """All of them, as they are now."""
        return dict(self._lineups)

    def find(self, name: str) -> Lineup | None:
        """The lineup of a name, if it is served."""
        return self._lineups.get(name)

    def check(self, name: str) -> Lineup:
        """The lineup of a name. Raises RequestError with MODEL_UNKNOWN if it is not served."""
        lineup = self._lineups.get(name)
        if lineup is None:
            message = f"no model {name!r} is served here: GET /v1/models lists those that are"
            raise RequestError(Code.MODEL_UNKNOWN, message)
        return lineup

    def swap(self, name: str, lineup: Lineup | None) -> tuple[ServedVersion, ...]:
        """Replace a name's lineup, or stop serving it; the versions that no request will get any more."""
        before = self._lineups.pop(name, None)
        if lineup is not None:
            self._lineups[name] = lineup
        staying = lineup.versions() if lineup is not None else ()
        return tuple(
            served
            for served in (before.versions() if before is not None else ())
            if served not in staying
        )

    @contextmanager
    def chosen(
        self, name: str, request_id: str, *, is_allowed: Callable[[str], bool]
    ) -> Iterator[Choice]:
        """The version for one request, held until the end. Raises RequestError with MODEL_UNKNOWN.

        is_allowed: whether the caller may ask a version; who may not ask the canary gets production.
        """
        lineup = self.check(name)
        with ExitStack() as leases:
            leases.enter_context(lineup.production.lease())
            served = lineup.production
            canary = lineup.canary
            if (
                canary is not None
                and falls_to("canary", request_id, canary.share)
                and is_allowed(canary.served.version.version)
            ):
                served = canary.served
                leases.enter_context(served.lease())
            yield Choice(served, lineup.production)


def falls_to(purpose: str, request_id: str, share: float) -> bool:
    """Whether a request belongs to the share, 0..1, that a purpose gets.

    By a hash of the request's id, which is random and ours: the caller cannot choose, and what a shadow gets does not
    depend on what a canary gets.
    """
    digest = hashlib.sha256(f"{purpose}/{request_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * _ONE
