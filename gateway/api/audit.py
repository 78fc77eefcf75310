"""The routes about the ledger: reading it, its newest checkpoint, and proofs of single records.

Rules: who asks and what for is on record before anything leaves; parameters are parsed strictly; whoever may not read
the ledger learns of no record but its own, not even that there is one.
"""

import json
from typing import NoReturn

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.edge import Edge
from gateway.api.parameters import unique_parameters
from gateway.audit.checkpoints import parse_decimal
from gateway.audit.details import format_detail
from gateway.audit.entries import is_origin
from gateway.audit.merkle import LogInvalidError
from gateway.audit.proving import Owner, is_own
from gateway.audit.query import LedgerQuery, Page, detail_of, parse_query
from gateway.audit.query_cursors import QueryInvalidError
from gateway.errors import Code, RequestError
from gateway.identity.policy import Permission
from gateway.pipeline import Admitted, Call


async def search(request: Request, call: Call, edge: Edge) -> Response:
    """A page of the records that fit the filters in the query."""

    async def produce(admitted: Admitted) -> bytes:
        query = _query(request, call, edge)
        admitted.note(detail=detail_of(query))
        page = await edge.ledger.page(query)
        admitted.note(result_count=len(page.records))
        return _encode(page)

    return Response(await edge.pipeline.describe(call, produce), media_type="application/json")


async def show_checkpoint(request: Request, call: Call, edge: Edge) -> Response:
    """The newest signed checkpoint of a ledger, as the note that it is."""

    async def produce(admitted: Admitted) -> bytes:
        origin = _origin(request, edge)
        admitted.note(detail=format_detail(origin=origin))
        note = await edge.ledger.newest_note(origin)
        return _unknown("no such ledger") if note is None else note

    return _text(await edge.pipeline.describe(call, produce))


async def prove(request: Request, call: Call, edge: Edge) -> Response:
    """The proof file of the record at an index."""

    async def produce(admitted: Admitted) -> bytes:
        origin, index = _origin(request, edge), _index(request)
        admitted.note(detail=format_detail(origin=origin, index=index))
        record = await edge.ledger.record(origin, index)
        if record is None:
            _unknown("absent")
        owner = Owner(admitted.principal.issuer, admitted.principal.subject)
        if not (admitted.holds(Permission.AUDIT_READ) or is_own(record, owner, edge.ledger.forms)):
            _unknown("not of the caller")
        return await edge.ledger.prove(record)

    return _text(await edge.pipeline.describe(call, produce))


def _query(request: Request, call: Call, edge: Edge) -> LedgerQuery:
    values = unique_parameters(request.query_params.multi_items())
    try:
        return parse_query(values, now=call.received_at, forms=edge.ledger.forms)
    except QueryInvalidError as exc:
        raise RequestError(Code.PARAMETER_INVALID, f"parameter {exc}") from exc


def _origin(request: Request, edge: Edge) -> str:
    values = unique_parameters(request.query_params.multi_items())
    for name in values:
        if name != "origin":
            message = f"parameter {name[:40]!r}: unknown; known is origin"
            raise RequestError(Code.PARAMETER_INVALID, message)
    origin = values.get("origin", edge.ledger.origin)
    if not is_origin(origin):
        message = "parameter 'origin': the name of a ledger, as X-Audit-Log tells it"
        raise RequestError(Code.PARAMETER_INVALID, message)
    return origin


def _index(request: Request) -> int:
    try:
        return parse_decimal(request.path_params["index"])
    except LogInvalidError as exc:
        message = "the index must be digits without leading zeroes, as X-Audit-Index tells it"
        raise RequestError(Code.PARAMETER_INVALID, message) from exc


def _unknown(reason: str) -> NoReturn:
    # One answer for what is not there and for what is another's.
    message = "no such record: ask for one that X-Audit-Log and X-Audit-Index of your answers name"
    raise RequestError(Code.RECORD_UNKNOWN, message, reason=reason)


def _encode(page: Page) -> bytes:
    # A body is the JSON of an object already; it is not written anew.
    records = ",".join(
        f'{{"origin":{json.dumps(r.origin)},"position":{r.position},{r.body[1:]}'
        for r in page.records
    )
    return f'{{"records":[{records}],"next":{json.dumps(page.next_cursor)}}}'.encode("ascii")


def _text(content: bytes) -> Response:
    return Response(content, media_type="text/plain")
