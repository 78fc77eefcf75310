"""What the OpenAPI document says of the ledger's routes: their parameters, and records as JSON Schema.

Rules: closed sets and limits are taken from the code that enforces them.
"""

from typing import Any

from gateway.audit.events import MAX_CHARACTERS, Action, Outcome
from gateway.audit.query import DEFAULT_LIMIT, MAX_LIMIT, TEXT_FILTERS
from gateway.audit.query_cursors import MAX_CURSOR_CHARACTERS
from gateway.errors import Code

Json = dict[str, Any]

_ORIGIN: Json = {"type": "string", "pattern": "^[!-*,-~]{1,128}$"}
_POSITION: Json = {"type": "integer", "minimum": 0}
_TIME: Json = {
    "type": "string",
    "pattern": (
        r"^([1-9][0-9]{0,4}[smhd]|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"
        r"(Z|[+-][0-9]{2}:[0-9]{2}))$"
    ),
}


def search_parameters() -> tuple[Json, ...]:
    """Those of a search, in the order in which they are documented."""
    return tuple(
        _in_query(name, description, schema)
        for name, (schema, description) in (_filters() | _paging()).items()
    )


def proof_parameters() -> tuple[Json, ...]:
    """Those of a proof: which record, of which ledger."""
    index = {
        "name": "index",
        "in": "path",
        "required": True,
        "description": "The record's position, as X-Audit-Index tells it.",
        "schema": {**_POSITION, "maximum": (1 << 63) - 1},
    }
    return (index, *origin_parameters())


def origin_parameters() -> tuple[Json, ...]:
    """The ledger that is meant."""
    description = (
        "The ledger, as X-Audit-Log tells it; left out, the one of the gateway that answers."
    )
    return (_in_query("origin", description, _ORIGIN),)


def audit_schemas() -> dict[str, Json]:
    """A page and its records."""
    page: Json = {
        "records": {"type": "array", "items": {"$ref": "#/components/schemas/AuditRecord"}},
        "next": {
            "type": ["string", "null"],
            "description": "the cursor of the next page; null where there is none",
        },
    }
    return {"AuditPage": _object(page), "AuditRecord": _record()}


def _filters() -> dict[str, tuple[Json, str]]:
    texts = {
        name: (_text(MAX_CHARACTERS[name]), f"Only records whose {name} is this.")
        for name in TEXT_FILTERS
    }
    model = {"type": "string", "pattern": r"^[^@]{1,128}(@[\s\S]{1,64})?$"}
    return {
        **texts,
        "model": (model, "Only records about this model, or NAME@VERSION."),
        "action": ({"enum": [*Action]}, "Only what was attempted so."),
        "outcome": ({"enum": [*Outcome]}, "Only what came so far."),
        "code": ({"enum": [*Code]}, "Only what was refused or failed with this code."),
        "origin": (_ORIGIN, "Only records of this ledger; left out, of all of the database."),
        "since": (
            _TIME,
            "Only from this time (RFC 3339) on, or from so long ago: 90s, 15m, 2h, 7d.",
        ),
        "until": (_TIME, "Only before this time, or before so long ago."),
    }


def _paging() -> dict[str, tuple[Json, str]]:
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
    cursor = {"type": "string", "pattern": f"^[A-Za-z0-9_-]{{1,{MAX_CURSOR_CHARACTERS}}}$"}
    return {
        "order": ({"enum": ["newest", "oldest"], "default": "newest"}, "Which come first."),
        "limit": (limit, "How many records, at most; a search that takes long gives fewer."),
        "cursor": (cursor, "Goes on behind the page that gave it; with the same filters."),
    }


def _record() -> Json:
    count: Json = {"type": ["integer", "null"], "minimum": 0}
    properties: Json = {
        "origin": {**_ORIGIN, "description": "the ledger"},
        "position": {**_POSITION, "description": "in the ledger"},
        "format": {"type": "integer", "minimum": 1},
        "recorded_at": {"type": "string", "format": "date-time"},
        "action": {"type": "string"},
        "outcome": {"enum": [*Outcome]},
        "code": {"type": ["string", "null"]},
        **{name: {"type": ["string", "null"]} for name in MAX_CHARACTERS},
        "input_bytes": count,
        "result_count": count,
    }
    # Records of earlier releases have fewer members.
    always = ["origin", "position", "format", "recorded_at", "action", "outcome"]
    return {"type": "object", "properties": properties, "required": always}


def _object(properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": [*properties]}


def _text(max_characters: int) -> Json:
    return {"type": "string", "minLength": 1, "maxLength": max_characters}


def _in_query(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}
