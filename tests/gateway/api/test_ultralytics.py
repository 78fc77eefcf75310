"""The Platform's predict protocol, against literal requests and answers."""

import json
from collections.abc import Mapping
from urllib.parse import urlencode

import httpx
import numpy as np
import pytest
from starlette.requests import Request
from starlette.types import Message

from gateway.api.parameters import PredictParameters
from gateway.api.ultralytics import (
    AnswerFacts,
    ParsedRequest,
    read_predict_request,
    render_answer,
)
from gateway.errors import Code, RequestError
from gateway.inference.postprocess import Thresholds
from gateway.inference.runner import InferenceResult
from gateway.pipeline import PredictRequest
from gateway.store.records import Detections

FACTS = AnswerFacts(
    model_name="belt",
    model_version="3",
    task="detect",
    class_names=("bolt", "écrou"),
    precision="f32",
    versions={"gatewatch": "0.1.0"},
)


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


def result(
    boxes: list[list[float]], confidences: list[float], classes: list[int]
) -> InferenceResult:
    """What the runner would say of a black image, 400 pixels high and 800 wide."""
    detections = Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(confidences, np.float32),
        np.array(classes, np.int64),
    )
    return InferenceResult(
        detections=detections,
        image=np.zeros((400, 800, 3), np.uint8),
        image_shape=(400, 800),
        decode_milliseconds=0.5,
        preprocess_milliseconds=0.73456,
        inference_milliseconds=9.0,
        postprocess_milliseconds=0.1,
        queue_milliseconds=77.0,
    )


TWO = result([[10.123456, 20, 30.5, 40], [0, 0, 800, 400]], [0.9, 0.25], [1, 0])


def render(found: InferenceResult, parameters: PredictParameters) -> bytes:
    """The answer at fixed times."""
    return render_answer(found, parameters, FACTS, call_seconds=0.0123456, alive_seconds=60.0)


def results(found: InferenceResult, **parameters: object) -> list[dict[str, object]]:
    """The results of the one image in an answer."""
    answer = json.loads(render(found, PredictParameters(**parameters)))  # type: ignore[arg-type]  # any field, by name
    listed: list[dict[str, object]] = answer["images"][0]["results"]
    return listed


def test_an_answer_has_exactly_the_protocols_members() -> None:
    """Members, nesting, order and units of the published protocol."""
    expected = (
        '{"images":[{"shape":[400,800],'
        '"speed":{"preprocess":1.235,"inference":9.0,"postprocess":0.1},'
        '"results":['
        '{"name":"\\u00e9crou","class":1,"confidence":0.9,'
        '"box":{"x1":10.12346,"y1":20.0,"x2":30.5,"y2":40.0}},'
        '{"name":"bolt","class":0,"confidence":0.25,'
        '"box":{"x1":0.0,"y1":0.0,"x2":800.0,"y2":400.0}}]}],'
        '"metadata":{"imageCount":1,"functionTimeCall":0.012346,"functionTimeAlive":60.0,'
        '"model":"belt@3","task":"detect","classNames":["bolt","\\u00e9crou"],'
        '"precision":"f32","version":{"gatewatch":"0.1.0"}}}'
    )
    assert expected == render(TWO, PredictParameters()).decode("ascii")


def test_nothing_found_is_an_empty_list() -> None:
    """An image without objects is a good answer."""
    assert results(result([], [], [])) == []


def test_normalized_boxes_are_shares_of_the_sides() -> None:
    """x by the width, y by the height."""
    found = result([[200, 100, 800, 400]], [0.5], [0])
    assert results(found, is_normalized=True)[0]["box"] == {
        "x1": 0.25, "y1": 0.25, "x2": 1.0, "y2": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("decimals", "confidence", "x1"),
    [(0, 1.0, 10.0), (1, 0.9, 10.1), (5, 0.87654, 10.12346), (10, 0.8765432239, 10.1234560013)],
)
def test_decimals_round_boxes_and_confidences(decimals: int, confidence: float, x1: float) -> None:
    """Numbers keep so many digits; 10 show the float32 that the network gave."""
    found = result([[10.123456, 20, 30, 40]], [0.8765432], [0])
    rounded = results(found, decimals=decimals)[0]
    assert (rounded["confidence"], rounded["box"]) == (
        confidence,
        {"x1": x1, "y1": 20.0, "x2": 30.0, "y2": 40.0},
    )


def incoming(body: bytes, *, query: str = "", headers: Mapping[str, str] | None = None) -> Request:
    """A POST with this query and this body in one piece."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    raw = [(name.lower().encode(), text.encode()) for name, text in (headers or {}).items()]
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": query.encode(),
             "headers": raw}  # fmt: skip
    return Request(scope, receive)


async def read(request: Request) -> ParsedRequest:
    """The request as the gateway reads it."""
    return await read_predict_request(request, max_body_bytes=10_000, timeout_seconds=5)


def form(file: bytes, query: str = "", **fields: str) -> Request:
    """The form that httpx builds."""
    sent = httpx.Request(
        "POST", "https://gateway.example/", files={"file": ("a.jpg", file)}, data=fields
    )
    headers = {"Content-Type": sent.headers["content-type"]}
    return incoming(sent.read(), query=query, headers=headers)


@pytest.mark.anyio
@pytest.mark.parametrize("content_type", ["image/jpeg", "application/octet-stream", None])
async def test_a_raw_body_is_the_image(content_type: str | None) -> None:
    """Parameters come from the query, whatever kind of image the caller claims to send."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    parsed = await read(incoming(b"bytes", query="conf=0.5&imgsz=320", headers=headers))
    assert parsed == ParsedRequest(
        b"bytes", PredictParameters(confidence=0.5, image_size_pixels=320)
    )


@pytest.mark.anyio
async def test_a_form_gives_image_and_parameters() -> None:
    """Fields and query add up."""
    parsed = await read(form(b"bytes", query="iou=0.5", conf="0.75", normalize="true"))
    assert parsed == ParsedRequest(
        b"bytes", PredictParameters(confidence=0.75, iou=0.5, is_normalized=True)
    )


@pytest.mark.anyio
@pytest.mark.parametrize(
    "request_twice",
    [
        incoming(b"bytes", query="conf=0.5&conf=0.5"),
        incoming(b"bytes", query=urlencode([("conf", "0.5"), ("iou", "0.1"), ("conf", "0.9")])),
        form(b"bytes", query="conf=0.5", conf="0.5"),
    ],
    ids=["same", "other", "query and form"],
)
async def test_a_parameter_given_twice_is_refused(request_twice: Request) -> None:
    """In the query, or in query and form."""
    with pytest.raises(RequestError) as caught:
        await read(request_twice)
    assert (caught.value.code, caught.value.message) == (
        Code.PARAMETER_INVALID,
        "a parameter is given twice: give each once",
    )


@pytest.mark.anyio
async def test_an_empty_file_is_refused() -> None:
    """A form around nothing is as empty as an empty body."""
    with pytest.raises(RequestError) as caught:
        await read(form(b""))
    assert caught.value.code is Code.BODY_EMPTY


@pytest.mark.anyio
async def test_a_parameter_without_a_value_is_not_passed_over() -> None:
    """`conf=` means no threshold that anybody chose."""
    with pytest.raises(RequestError) as caught:
        await read(incoming(b"bytes", query="conf="))
    assert caught.value.code is Code.PARAMETER_INVALID


def test_the_pipeline_gets_bytes_and_thresholds() -> None:
    """What only shapes the answer stays in the protocol."""
    parsed = ParsedRequest(
        b"bytes", PredictParameters(confidence=0.5, iou=0.1, image_size_pixels=320, decimals=1)
    )
    assert parsed.to_pipeline() == PredictRequest(
        b"bytes", Thresholds(confidence=0.5, iou=0.1), 320
    )
