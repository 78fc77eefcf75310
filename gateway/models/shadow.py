"""Asking a candidate what it would have answered, after the caller has had production's answer.

Rules: a shadow never fails an answer and never comes before one: it begins on one image at a time, only while it is
idle and nothing waits for production. That no image waits does not mean that cores are idle: while it runs it takes
them from what production gets next. What it finds is sampled and given to nobody; what it skips is counted.
"""

import asyncio
import logging
from contextlib import ExitStack
from dataclasses import dataclass, replace

from gateway.errors import GatewayError
from gateway.inference.postprocess import Thresholds
from gateway.metrics import GatewayMetrics
from gateway.models.directory import Directory, Lineup, falls_to
from gateway.models.served import ServedVersion
from gateway.sampling.offers import Offer
from gateway.sampling.sampler import Sampler
from gateway.store.records import SampleMode

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """An answered request as a shadow gets it. offer: what the sampler got of the answer."""

    offer: Offer
    thresholds: Thresholds
    image_size_pixels: int | None


class Shadows:
    """Runs the shadows of all models of one directory, on one event loop, until it is closed."""

    def __init__(self, *, directory: Directory, sampler: Sampler, metrics: GatewayMetrics) -> None:
        self._directory = directory
        self._sampler = sampler
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()

    def offer(self, request: AnsweredRequest) -> None:
        """Perhaps show a request to the shadow of its model; returns at once and never raises."""
        lineup = self._directory.find(request.offer.model_name)
        if lineup is None or lineup.shadow is None:
            return
        shadow = lineup.shadow
        if not falls_to("shadow", request.offer.request_id, shadow.share):
            return
        if not _has_room(lineup, shadow.served):
            self._metrics.shadow_answers.labels("skipped").inc()
            return
        with ExitStack() as leases:
            # Held from here and not from the task's first step: until then it would seem idle to the next request.
            leases.enter_context(shadow.served.lease())
            task = asyncio.create_task(self._run(shadow.served, request))
            held = leases.pop_all()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _task: held.close())

    async def close(self) -> None:
        """Give up what still runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, served: ServedVersion, request: AnsweredRequest) -> None:
        try:
            result = await served.runner.detect(
                request.offer.encoded, request.thresholds, request.image_size_pixels
            )
        except GatewayError as exc:
            self._metrics.shadow_answers.labels("failed").inc()
            log.warning("shadow_failed model=%s reason=%s", served.label, exc.reason)
            return
        self._metrics.shadow_answers.labels("answered").inc()
        self._sampler.offer(
            replace(
                request.offer,
                model_version=served.version.version,
                image=result.image,
                detections=result.detections,
                embedding=result.embedding,
                mode=SampleMode.SHADOW,
            )
        )


def _has_room(lineup: Lineup, shadow: ServedVersion) -> bool:
    return shadow.leases == 0 and lineup.production.runner.queue_depth == 0
