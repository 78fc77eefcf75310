"""The one table of routes, and how a request gets from it to the pipeline and back.

Rules: ROUTES is the only way to register a route; what is not in it is refused and recorded. Authorisation goes by the
matched route, never by request.url, which a Host header can bend.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, compile_path
from starlette.types import Lifespan

from gateway.api import audit, models
from gateway.api.edge import About, Edge, Handler, RouteEntry
from gateway.api.openapi import OPENAPI_PATH, openapi_bytes
from gateway.api.predict import predict
from gateway.api.problems import problem
from gateway.api.rate_limit_headers import rate_limit_headers
from gateway.api.request_ids import new_request_id
from gateway.api.resource_metadata import RESOURCE_METADATA_PATH, resource_metadata
from gateway.audit.events import Action
from gateway.errors import Code, GatewayError, RequestError, ServiceError
from gateway.identity.access import Standing
from gateway.identity.policy import Permission
from gateway.identity.principal import Credentials
from gateway.models.names import is_model_name
from gateway.pipeline import Call

log = logging.getLogger("gateway.api")

UNMATCHED = "unmatched"


async def _livez(request: Request, call: Call, edge: Edge) -> Response:
    del request, call, edge
    return Response(b"ok\n", media_type="text/plain")


async def _readyz(request: Request, call: Call, edge: Edge) -> Response:
    del request, call
    if await edge.is_ready():
        return Response(b"ready\n", media_type="text/plain")
    raise ServiceError(
        Code.NOT_READY,
        "the gateway is not ready: its model, its database or the keys of an issuer are not",
    )


async def _resource_metadata(request: Request, call: Call, edge: Edge) -> Response:
    del request, call
    return Response(resource_metadata(edge.resource), media_type="application/json")


async def _openapi(request: Request, call: Call, edge: Edge) -> Response:
    del request, call
    return Response(openapi_bytes(ROUTES, edge.version), media_type="application/json")


def _named(
    verb: str, method: str, permission: Permission, action: Action, handler: Handler
) -> RouteEntry:
    path = "/v1/models/{name}" + (f"/{verb}" if verb else "")
    return RouteEntry(path, method, permission, action, handler, About.NAMED)


def _proof(path: str, handler: Handler) -> RouteEntry:
    return RouteEntry(path, "GET", Permission.AUDIT_PROVE, Action.AUDIT_PROVE, handler, About.ALL)


ROUTES: tuple[RouteEntry, ...] = (
    RouteEntry("/predict", "POST", Permission.PREDICT, Action.PREDICT, predict),
    _named("predict", "POST", Permission.PREDICT, Action.PREDICT, predict),
    RouteEntry("/v1/model", "GET", Permission.MODELS_READ, Action.MODELS_READ, models.show_default),
    RouteEntry(
        "/v1/models", "GET", Permission.MODELS_READ, Action.MODELS_READ, models.list_all, About.ALL
    ),
    _named("", "GET", Permission.MODELS_READ, Action.MODELS_READ, models.show),
    _named("promote", "POST", Permission.MODELS_WRITE, Action.MODELS_PROMOTE, models.promote),
    _named("rollback", "POST", Permission.MODELS_WRITE, Action.MODELS_ROLLBACK, models.roll_back),
    _named("retire", "POST", Permission.MODELS_WRITE, Action.MODELS_RETIRE, models.retire),
    _named(
        "traffic", "POST", Permission.MODELS_WRITE, Action.MODELS_TRAFFIC, models.direct_traffic
    ),
    RouteEntry(
        "/v1/audit", "GET", Permission.AUDIT_READ, Action.AUDIT_READ, audit.search, About.ALL
    ),
    _proof("/v1/audit/checkpoint", audit.show_checkpoint),
    _proof("/v1/audit/proof/{index}", audit.prove),
    RouteEntry("/livez", "GET", None, None, _livez),
    RouteEntry("/readyz", "GET", None, None, _readyz),
    RouteEntry(RESOURCE_METADATA_PATH, "GET", None, None, _resource_metadata),
    RouteEntry(OPENAPI_PATH, "GET", None, None, _openapi),
)


def build_app(edge: Edge, *, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    """The ASGI application with exactly the routes of ROUTES."""

    async def unknown_route(request: Request, _exc: Exception) -> Response:
        return await _refuse(request, edge, _unknown_route())

    async def wrong_method(request: Request, exc: Exception) -> Response:
        error = _wrong_method(exc) if _is_plain(request) else _unknown_route()
        return await _refuse(request, edge, error)

    async def failed(_request: Request, _exc: Exception) -> Response:
        # Outside of any route, so nothing is known to record; Starlette's own answer would be plain text.
        request_id = new_request_id()
        log.error("request_failed request_id=%s", request_id)
        response = problem(_internal(), request_id=request_id, resource=edge.resource)
        response.headers["X-Request-Id"] = request_id
        return response

    app = Starlette(
        routes=[_route(entry, edge) for entry in ROUTES],
        exception_handlers={404: unknown_route, 405: wrong_method, Exception: failed},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


def _route(entry: RouteEntry, edge: Edge) -> Route:
    route = Route(entry.path, _endpoint(entry, edge), methods=[entry.method])
    # Starlette adds HEAD to GET; a method that is not in the table is not served.
    route.methods = {entry.method}
    return route


def _endpoint(entry: RouteEntry, edge: Edge) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        if not _is_plain(request):
            return await _refuse(request, edge, _unknown_route())
        call = _call(request, edge, entry)
        return await _answer(call, edge, entry.path, lambda: entry.handler(request, call, edge))

    return endpoint


def _is_plain(request: Request) -> bool:
    # A proxy that forbids a path by its bytes would let its escaped spelling through.
    path: str = request.scope["path"]
    raw_path: bytes = request.scope["raw_path"]
    name = request.path_params.get("name")
    return raw_path == path.encode("utf-8") and (name is None or is_model_name(name))


async def _refuse(request: Request, edge: Edge, error: RequestError) -> Response:
    call = _call(request, edge, None)

    async def refuse() -> Response:
        await edge.pipeline.refuse(call, error)

    response = await _answer(call, edge, UNMATCHED, refuse)
    if error.code is Code.METHOD_NOT_ALLOWED:
        path = request.scope["path"]
        allowed = sorted({e.method for e in ROUTES if compile_path(e.path)[0].match(path)})
        response.headers["Allow"] = ", ".join(allowed)
    return response


async def _answer(
    call: Call, edge: Edge, route: str, handle: Callable[[], Awaitable[Response]]
) -> Response:
    started = time.perf_counter()
    code = "ok"
    try:
        response = await handle()
    except GatewayError as exc:
        code = exc.code.value
        response = _problem(exc, call, edge)
        edge.metrics.count_refusal(exc)
    except asyncio.CancelledError:
        # A shutdown that has waited long enough; what has a record to write has written it.
        error = ServiceError(Code.NOT_READY, "the gateway is shutting down")
        code = error.code.value
        response = _problem(error, call, edge)
    except Exception:
        # The last resort: whatever a handler forgot is answered, counted and logged, never silent.
        log.exception("request_failed request_id=%s", call.request_id)
        error = _internal()
        code = error.code.value
        response = _problem(error, call, edge)
    response.headers["X-Request-Id"] = call.request_id
    _tell_standing(response, call.standing)
    edge.metrics.requests.labels(route, str(response.status_code), code).inc()
    edge.metrics.request_seconds.labels(route).observe(time.perf_counter() - started)
    return response


def _call(request: Request, edge: Edge, entry: RouteEntry | None) -> Call:
    return Call(
        request_id=new_request_id(),
        received_at=edge.clock(),
        action=(entry.action if entry else None) or Action.ROUTE_UNKNOWN,
        permission=entry.permission if entry else None,
        route=entry.path if entry else request.scope["path"],
        credentials=_credentials(request),
        model_name=_model_name(request, edge, entry),
        unverified_sources=_sources(request, edge.source_header),
    )


def _credentials(request: Request) -> Credentials:
    return Credentials(
        unverified_authorization=tuple(request.headers.getlist("authorization")),
        unverified_dpop=tuple(request.headers.getlist("dpop")),
        method=request.method,
        path=request.scope["raw_path"].decode("ascii", "replace"),
        address=request.client.host if request.client else "",
        # What TLS verified; no header is ever believed to hold a certificate.
        certificate_thumbprint=request.scope.get("extensions", {})
        .get("tls", {})
        .get("client_cert_thumbprint"),
    )


def _sources(request: Request, header: str) -> tuple[str, ...]:
    return tuple(request.headers.getlist(header)) if header else ()


def _problem(error: GatewayError, call: Call, edge: Edge) -> Response:
    values = call.credentials.unverified_authorization
    is_dpop = len(values) == 1 and values[0][:5].lower() == "dpop "
    return problem(error, request_id=call.request_id, resource=edge.resource, is_dpop=is_dpop)


def _tell_standing(response: Response, standing: Standing) -> None:
    response.headers.update(rate_limit_headers(standing.quotas))
    if standing.dpop_nonce is not None:
        response.headers["DPoP-Nonce"] = standing.dpop_nonce
    if standing.audit_record is not None:
        origin, position = standing.audit_record
        response.headers["X-Audit-Log"] = origin
        response.headers["X-Audit-Index"] = str(position)


def _model_name(request: Request, edge: Edge, entry: RouteEntry | None) -> str:
    if entry is None or entry.about is About.ALL:
        return ""
    if entry.about is About.NAMED:
        name: str = request.path_params["name"]
        return name
    return edge.default_model


def _internal() -> ServiceError:
    return ServiceError(Code.INTERNAL, "the gateway failed; the request id finds the cause")


def _unknown_route() -> RequestError:
    known = ", ".join(f"{entry.method} {entry.path}" for entry in ROUTES)
    return RequestError(Code.ROUTE_UNKNOWN, f"no such path; there are {known}")


def _wrong_method(exc: Exception) -> RequestError:
    allowed = (exc.headers or {}).get("Allow", "") if isinstance(exc, HTTPException) else ""
    return RequestError(Code.METHOD_NOT_ALLOWED, f"this path takes only {allowed}")
