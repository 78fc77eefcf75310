"""The prediction routes: an image in, the answer of the version that answers for the model out."""

import time
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.edge import Edge
from gateway.api.hangup import ending_with_its_caller
from gateway.api.ultralytics import AnswerFacts, read_predict_request, render_answer
from gateway.inference.runner import InferenceResult
from gateway.metrics import GatewayMetrics
from gateway.models.directory import Answered
from gateway.models.served import ServedVersion
from gateway.pipeline import Call, PredictRequest

MODEL_HEADER = "X-Model-Version"
TIMING_HEADER = "Server-Timing"


async def predict(request: Request, call: Call, edge: Edge) -> Response:
    """Answer one image."""
    started = time.perf_counter()
    parsed = None
    milliseconds: dict[str, float] = {}

    async def read() -> PredictRequest:
        nonlocal parsed
        parsed = await read_predict_request(
            request,
            max_body_bytes=edge.max_body_bytes,
            timeout_seconds=edge.body_timeout_seconds,
            min_bytes_per_second=edge.min_body_bytes_per_second,
        )
        watch_for_hangup()
        return parsed.to_pipeline()

    def render(answered: Answered) -> bytes:
        if parsed is None:
            raise RuntimeError("internal: an answer was rendered before its request was read")
        milliseconds.update(_stages(answered.result))
        return render_answer(
            answered.result,
            parsed.parameters,
            _facts(answered.served, edge.version),
            call_seconds=time.perf_counter() - started,
            alive_seconds=time.monotonic() - edge.started_at_seconds,
        )

    with ending_with_its_caller(request) as watch_for_hangup:
        prediction = await edge.pipeline.predict(call, read, render)
    milliseconds["audit"] = prediction.audit_seconds * 1e3
    _observe(edge.metrics, milliseconds)
    headers = {MODEL_HEADER: prediction.model_label, TIMING_HEADER: _timing(milliseconds)}
    return Response(prediction.answer, media_type="application/json", headers=headers)


def _facts(served: ServedVersion, gateway_version: str) -> AnswerFacts:
    return AnswerFacts(
        model_name=served.version.name,
        model_version=served.version.version,
        task=served.task,
        class_names=served.class_names,
        precision=served.precision,
        versions={"gatewatch": gateway_version, **served.library_versions},
    )


def _stages(result: InferenceResult) -> dict[str, float]:
    return {
        "queue": result.queue_milliseconds,
        "decode": result.decode_milliseconds,
        "preprocess": result.preprocess_milliseconds,
        "inference": result.inference_milliseconds,
        "postprocess": result.postprocess_milliseconds,
    }


def _observe(metrics: GatewayMetrics, milliseconds: Mapping[str, float]) -> None:
    for stage, taken in milliseconds.items():
        metrics.stage_seconds.labels(stage).observe(taken / 1000)


def _timing(milliseconds: Mapping[str, float]) -> str:
    # Source: W3C Server Timing, section 3; durations in milliseconds.
    return ", ".join(f"{stage};dur={taken:.3f}" for stage, taken in milliseconds.items())
