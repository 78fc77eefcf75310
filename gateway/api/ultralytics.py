"""The Ultralytics Platform's predict protocol: parameters and image in, their JSON out.

Source: the Platform's inference documentation.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request

from gateway.api.body import read_body
from gateway.api.multipart import parse_form
from gateway.api.parameters import PredictParameters, parse_parameters, unique_parameters
from gateway.api.results import summarize
from gateway.errors import Code, RequestError
from gateway.inference.postprocess import Thresholds
from gateway.inference.runner import InferenceResult
from gateway.pipeline import PredictRequest


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """What every answer says about the served model. task: detect, segment, pose, obb or classify."""

    model_name: str
    model_version: str
    task: str
    class_names: tuple[str, ...]
    precision: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """The image to look at and the parameters that shape the answer."""

    body: bytes
    parameters: PredictParameters

    def to_pipeline(self) -> PredictRequest:
        """The part that the pipeline needs."""
        thresholds = Thresholds(confidence=self.parameters.confidence, iou=self.parameters.iou)
        return PredictRequest(self.body, thresholds, self.parameters.image_size_pixels)


async def read_predict_request(
    request: Request, *, max_body_bytes: int, timeout_seconds: float, min_bytes_per_second: int = 0
) -> ParsedRequest:
    """The image and parameters of a raw body (parameters in the query) or a multipart form (in either).

    Raises RequestError for a body or a parameter that is not as it must be.
    """
    in_query = unique_parameters(request.query_params.multi_items())
    content_type = request.headers.get("content-type", "")
    body = await read_body(
        request,
        max_body_bytes=max_body_bytes,
        timeout_seconds=timeout_seconds,
        min_bytes_per_second=min_bytes_per_second,
    )
    if not content_type.lower().startswith("multipart/form-data"):
        return ParsedRequest(body, parse_parameters(in_query))
    form = parse_form(body, content_type)
    if not form.file:
        raise RequestError(Code.BODY_EMPTY, "the form's file is empty: send the bytes of one image")
    values = unique_parameters([*in_query.items(), *form.fields.items()])
    return ParsedRequest(form.file, parse_parameters(values))


def render_answer(
    result: InferenceResult,
    parameters: PredictParameters,
    facts: AnswerFacts,
    *,
    call_seconds: float,
    alive_seconds: float,
) -> bytes:
    """The JSON of one answered image; times in the shape's own units (ms in speed, s in metadata)."""
    height, width = result.image_shape
    content = {
        "images": [
            {
                "shape": [height, width],
                "speed": {
                    "preprocess": round(
                        result.decode_milliseconds + result.preprocess_milliseconds, 3
                    ),
                    "inference": round(result.inference_milliseconds, 3),
                    "postprocess": round(result.postprocess_milliseconds, 3),
                },
                "results": summarize(
                    result.detections,
                    facts.class_names,
                    image_shape=(height, width),
                    is_normalized=parameters.is_normalized,
                    decimals=parameters.decimals,
                ),
            }
        ],
        "metadata": {
            "imageCount": 1,
            "functionTimeCall": round(call_seconds, 6),
            "functionTimeAlive": round(alive_seconds, 3),
            "model": f"{facts.model_name}@{facts.model_version}",
            "task": facts.task,
            "classNames": facts.class_names,
            "precision": facts.precision,
            "version": facts.versions,
        },
    }
    return json.dumps(content, separators=(",", ":")).encode("utf-8")
