"""The routes about models: reading what is registered and served, and an operator's changes."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.body import read_body
from gateway.api.change_bodies import (
    MAX_BODY_BYTES,
    TrafficChange,
    VersionChange,
    parse_empty_change,
    parse_traffic_change,
    parse_version_change,
)
from gateway.api.edge import Edge
from gateway.api.predict import MODEL_HEADER
from gateway.audit.details import format_detail
from gateway.errors import Code, RequestError
from gateway.models.catalog import ModelStatus, VersionStatus
from gateway.pipeline import Admitted, Call, Change, Changed
from gateway.store.records import ModelVersion, Stage

Asked = TypeVar("Asked", bound=Change)


async def show_default(request: Request, call: Call, edge: Edge) -> Response:
    """The default model's version in production."""
    del request
    label = ""

    async def produce(admitted: Admitted) -> bytes:
        nonlocal label
        served = edge.directory.check(edge.default_model).production
        admitted.require(served.version.version)
        label = served.label
        content = {
            "name": served.version.name,
            "version": served.version.version,
            "stage": Stage.PRODUCTION.value,
            "classNames": served.class_names,
            "inputSize": served.header.input_size,
            "precision": served.precision,
            "sha256": served.header.plaintext_sha256,
        }
        return _encode(content)

    answer = await edge.pipeline.describe(call, produce)
    return _json(answer, {MODEL_HEADER: label})


async def list_all(request: Request, call: Call, edge: Edge) -> Response:
    """Every model."""
    del request

    async def produce(_admitted: Admitted) -> bytes:
        # Only roles without any restriction come here.
        return _encode({"models": [_model(status) for status in await edge.catalog.read()]})

    return _json(await edge.pipeline.describe(call, produce))


async def show(request: Request, call: Call, edge: Edge) -> Response:
    """One model, with the versions that the caller may know of."""
    del request

    async def produce(admitted: Admitted) -> bytes:
        status = await edge.catalog.find(call.model_name)
        allowed = tuple(v for v in status.versions if admitted.is_allowed(v.version.version))
        if not allowed:
            admitted.require(status.versions[-1].version.version)
        return _encode(_model(replace(status, versions=allowed)))

    return _json(await edge.pipeline.describe(call, produce))


async def promote(request: Request, call: Call, edge: Edge) -> Response:
    """Put a version into production."""

    def make(asked: VersionChange) -> Awaitable[ModelVersion]:
        return edge.operations.promote(call.model_name, asked.version)

    return await _change(request, call, edge, parse_version_change, make)


async def roll_back(request: Request, call: Call, edge: Edge) -> Response:
    """Put the version before back."""

    def make(_asked: Change) -> Awaitable[ModelVersion]:
        return edge.operations.roll_back(call.model_name)

    return await _change(request, call, edge, parse_empty_change, make)


async def retire(request: Request, call: Call, edge: Edge) -> Response:
    """Take a version out of use."""

    def make(asked: VersionChange) -> Awaitable[ModelVersion]:
        return edge.operations.retire(call.model_name, asked.version)

    return await _change(request, call, edge, parse_version_change, make)


async def direct_traffic(request: Request, call: Call, edge: Edge) -> Response:
    """Give a version its requests."""

    def make(asked: TrafficChange) -> Awaitable[ModelVersion]:
        return edge.operations.direct_traffic(
            call.model_name, asked.version, traffic=asked.traffic, share=asked.share
        )

    return await _change(request, call, edge, parse_traffic_change, make)


async def _change(
    request: Request,
    call: Call,
    edge: Edge,
    parse: Callable[[bytes], Asked],
    make: Callable[[Asked], Awaitable[ModelVersion]],
) -> Response:
    async def read() -> Asked:
        return parse(await _read_body(request, edge))

    async def act(asked: Asked) -> Changed:
        changed = await make(asked)
        answer = _encode(_model(await edge.catalog.find(call.model_name)))
        detail = format_detail(sha256=changed.plaintext_sha256)
        return Changed(changed.version, answer, detail)

    return _json(await edge.pipeline.change(call, read, act))


async def _read_body(request: Request, edge: Edge) -> bytes:
    try:
        return await read_body(
            request,
            max_body_bytes=MAX_BODY_BYTES,
            timeout_seconds=edge.body_timeout_seconds,
            min_bytes_per_second=edge.min_body_bytes_per_second,
        )
    except RequestError as exc:
        if exc.code is Code.BODY_EMPTY:
            return b""
        if exc.code is Code.BODY_TOO_LARGE:
            message = f"the body is larger than {MAX_BODY_BYTES} bytes: send one small JSON object"
            raise RequestError(Code.BODY_TOO_LARGE, message) from exc
        raise


def _model(status: ModelStatus) -> dict[str, Any]:
    return {
        "name": status.name,
        "isServed": status.is_served,
        "versions": [_version(version) for version in status.versions],
    }


def _version(status: VersionStatus) -> dict[str, Any]:
    version, served, failure = status.version, status.served, status.failure
    content: dict[str, Any] = {
        "version": version.version,
        "stage": version.stage.value,
        "traffic": version.traffic.value,
        "share": version.share,
        "task": version.task,
        "engine": version.engine,
        "precision": version.precision,
        "inputSize": version.input_size,
        "sha256": version.plaintext_sha256,
        "registeredAt": version.registered_at.isoformat(),
        "isLoaded": served is not None,
    }
    if served is not None:
        content["madeWith"] = dict(served.header.made_with)
        content["gates"] = dict(served.header.gates)
    if failure is not None:
        # Whoever may read models is told the kind; the message may name files and is in the log and the ledger.
        content["loadFailure"] = {"code": failure.code.value, "attempts": failure.attempts}
    return content


def _encode(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode("utf-8")


def _json(answer: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(answer, media_type="application/json", headers=headers)
