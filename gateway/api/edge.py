"""What every route is made of, and what its handler works with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.resource_metadata import ResourceFacts
from gateway.audit.events import Action
from gateway.audit.reader import LedgerReader
from gateway.identity.policy import Permission
from gateway.metrics import GatewayMetrics
from gateway.models.catalog import Catalog
from gateway.models.directory import Directory
from gateway.models.operations import Operations
from gateway.pipeline import Call, Pipeline


@dataclass(frozen=True, slots=True)
class Edge:
    """What the handlers need: the pipeline, the models, the ledger, limits, clocks.

    default_model: the one that paths without a name are about. version: of this gateway, as answers state it.
    resource: what OAuth clients may know before they have a token. source_header: the one that names a camera, empty
    for none.
    """

    pipeline: Pipeline
    directory: Directory
    catalog: Catalog
    operations: Operations
    ledger: LedgerReader
    default_model: str
    version: str
    metrics: GatewayMetrics
    is_ready: Callable[[], Awaitable[bool]]
    max_body_bytes: int
    body_timeout_seconds: float
    min_body_bytes_per_second: int
    clock: Callable[[], datetime]
    started_at_seconds: float
    resource: ResourceFacts
    source_header: str = ""


Handler = Callable[[Request, Call, Edge], Awaitable[Response]]


class About(Enum):
    """Which model a route is about, and so the one that roles of the form `role:model` are compared with."""

    DEFAULT = auto()
    NAMED = auto()  # by the path's {name}
    ALL = auto()


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """One route; permission None means open to everybody and unrecorded, which only health and discovery are."""

    path: str
    method: str
    permission: Permission | None
    action: Action | None
    handler: Handler
    about: About = About.DEFAULT
