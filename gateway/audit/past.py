"""What the ledger says of earlier: the newest details of one kind of record, and what the last start was told.

Rules: records are read and not verified here; who changed one is found by `gateway audit verify`. One that cannot be
read is passed over.
"""

import json
from typing import Any

from sqlalchemy import Connection

from gateway.audit.details import parse_detail
from gateway.audit.events import Action
from gateway.store.queries.audit_search import RecordSearch, search_records

# Every start writes one with a policy; refused starts and others between them have none.
_LOOKED_AT_STARTS = 1000


def load_newest_details(
    connection: Connection, origin: str, action: Action, *, limit: int
) -> list[str]:
    """The details of the newest records of an action other than predict in one ledger, the newest first.

    Raises SQLAlchemyError, ValueError if a stored value has another type than its column.
    """
    search = RecordSearch(is_newest_first=True, origin=origin, action=action.value)
    records = search_records(connection, search, None, limit=limit)
    return [detail for record in records if (detail := _detail(record.body)) is not None]


def load_last_policy(connection: Connection, origin: str) -> str | None:
    """The digest of the policy at the last start, "none" without a file; None before the first start.

    Raises as load_newest_details does.
    """
    details = load_newest_details(connection, origin, Action.GATEWAY_START, limit=_LOOKED_AT_STARTS)
    policies = (parse_detail(detail).get("policy", ()) for detail in details)
    return next((policy[0] for policy in policies if policy), None)


def _detail(body: str) -> str | None:
    try:
        members: Any = json.loads(body)
    except ValueError:
        return None
    detail = members.get("detail") if isinstance(members, dict) else None
    return detail if isinstance(detail, str) else None
