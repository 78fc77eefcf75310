"""Audit records as events of the Open Cybersecurity Schema Framework, as security teams' tools take them. Pure.

Rules: every action has one class and activity, and every member of a record has one place, `unmapped` if no other;
what a record does not say is not made up, but for the names that the schema requires (see _actor); text of callers
stays text. Source: OCSF schema, version SCHEMA_VERSION (events, objects, dictionary).
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from gateway.audit.details import parse_detail
from gateway.audit.events import Action, Outcome
from gateway.errors import Code

SCHEMA_VERSION = "1.9.0-dev"
PRODUCT = "Gatewatch"

Members = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OcsfClass:
    """An event class. uid: its number, thousands are its category; name, category_name: the schema's captions."""

    uid: int
    name: str
    category_name: str

    @property
    def category_uid(self) -> int:
        """The number of its category."""
        return self.uid // 1000


@dataclass(frozen=True, slots=True)
class Activity:
    """What an action is in the schema. id: of the class's activities; OTHER where none of them fits.

    name: the schema's caption, or a word of ours for OTHER. table: what a datastore activity is about.
    """

    ocsf_class: OcsfClass
    id: int
    name: str
    table: str | None = None


ACCOUNT_CHANGE = OcsfClass(3001, "Account Change", "Identity & Access Management")
AUTHENTICATION = OcsfClass(3002, "Authentication", "Identity & Access Management")
APPLICATION_LIFECYCLE = OcsfClass(6002, "Application Lifecycle", "Application Activity")
API_ACTIVITY = OcsfClass(6003, "API Activity", "Application Activity")
DATASTORE_ACTIVITY = OcsfClass(6005, "Datastore Activity", "Application Activity")

UNKNOWN = 0
OTHER = 99

# A refused credential is a failed logon whatever it was to be used for: that is where a security team looks for it.
_LOGON = Activity(AUTHENTICATION, 1, "Logon")
# What a later release may have recorded.
_UNKNOWN_ACTIVITY = Activity(API_ACTIVITY, UNKNOWN, "Unknown")

_RECORDS = "audit_records"

# Keys and rules are what a cloud's own trail reports as calls of its API, so they are here too. A model version is an
# application that is installed, enabled and started. Account Change is the class for denying somebody access.
ACTIVITIES: Mapping[Action, Activity] = MappingProxyType(
    {
        Action.PREDICT: Activity(API_ACTIVITY, OTHER, "Predict"),
        Action.MODELS_READ: Activity(API_ACTIVITY, 2, "Read"),
        Action.MODELS_SEAL: Activity(APPLICATION_LIFECYCLE, 1, "Install"),
        Action.MODELS_PROMOTE: Activity(APPLICATION_LIFECYCLE, 6, "Enable"),
        Action.MODELS_ROLLBACK: Activity(APPLICATION_LIFECYCLE, 8, "Update"),
        Action.MODELS_RETIRE: Activity(APPLICATION_LIFECYCLE, 7, "Disable"),
        Action.MODELS_TRAFFIC: Activity(APPLICATION_LIFECYCLE, 8, "Update"),
        Action.MODELS_LOAD: Activity(APPLICATION_LIFECYCLE, 3, "Start"),
        Action.KEYS_CREATE: Activity(API_ACTIVITY, 1, "Create"),
        Action.KEYS_USE: Activity(API_ACTIVITY, OTHER, "Use"),
        Action.KEYS_ROTATE: Activity(API_ACTIVITY, 3, "Update"),
        Action.ISSUER_KEYS: Activity(API_ACTIVITY, 3, "Update"),
        Action.POLICY_CHANGE: Activity(API_ACTIVITY, 3, "Update"),
        Action.TOKENS_REVOKE: Activity(ACCOUNT_CHANGE, 5, "Disable"),
        Action.TOKENS_RESTORE: Activity(ACCOUNT_CHANGE, 2, "Enable"),
        Action.GATEWAY_START: Activity(APPLICATION_LIFECYCLE, 3, "Start"),
        Action.GATEWAY_STOP: Activity(APPLICATION_LIFECYCLE, 4, "Stop"),
        Action.AUDIT_CREATE: Activity(DATASTORE_ACTIVITY, 6, "Create", _RECORDS),
        Action.AUDIT_READ: Activity(API_ACTIVITY, 2, "Read"),
        Action.AUDIT_EXPORT: Activity(DATASTORE_ACTIVITY, 1, "Read", _RECORDS),
        Action.AUDIT_PROVE: Activity(API_ACTIVITY, 2, "Read"),
        Action.AUDIT_VERIFY: Activity(DATASTORE_ACTIVITY, 1, "Read", _RECORDS),
        Action.AUDIT_OUTAGE: Activity(DATASTORE_ACTIVITY, 5, "Write", _RECORDS),
        Action.AUDIT_WITNESS: Activity(DATASTORE_ACTIVITY, OTHER, "Witness", _RECORDS),
        Action.SAMPLES_VIEW: Activity(DATASTORE_ACTIVITY, 10, "Decrypt", "sample_images"),
        Action.TRUTH_WRITE: Activity(DATASTORE_ACTIVITY, 5, "Write", "ground_truth"),
        Action.REFERENCE_MAKE: Activity(DATASTORE_ACTIVITY, 6, "Create", "drift_references"),
        Action.REPORT_MAKE: Activity(DATASTORE_ACTIVITY, 6, "Create", "reports"),
        Action.ALARM_CHANGE: Activity(DATASTORE_ACTIVITY, 2, "Update", "alarms"),
        Action.MONITOR_START: Activity(APPLICATION_LIFECYCLE, 3, "Start"),
        Action.MONITOR_STOP: Activity(APPLICATION_LIFECYCLE, 4, "Stop"),
        Action.ROUTE_UNKNOWN: Activity(API_ACTIVITY, UNKNOWN, "Unknown"),
    }
)

_STATUSES: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        # Begun, and its end is another record: neither of the schema's own words.
        Outcome.ADMITTED: (OTHER, "admitted"),
        Outcome.ANSWERED: (1, "Success"),
        Outcome.REFUSED: (2, "Failure"),
        Outcome.FAILED: (2, "Failure"),
    }
)
_NO_STATUS = (UNKNOWN, "Unknown")

_SEVERITIES = {1: "Informational", 2: "Low", 3: "Medium", 4: "High"}
_LEDGER_IN_DOUBT = frozenset({Code.LEDGER_BROKEN, Code.AUDIT_UNAVAILABLE})
_LEDGER_CHECKS = frozenset({Action.AUDIT_WITNESS, Action.AUDIT_VERIFY})

# The schema's list has others, which no client of a gateway sends.
_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)
_MAX_IP_CHARACTERS = 40

_NOBODY = {"name": "unauthenticated", "type_id": UNKNOWN, "type": "Unknown"}

# Members that every event has a place for; what else has one, _unmapped says.
_PLACED = frozenset(
    {
        "action", "code", "format", "reason", "recorded_at", "request_id",
        "client_id", "subject", "token_id",
    }
)  # fmt: skip

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def activity_of(body: Members) -> Activity:
    """The class and activity of a record. body: the members of its canonical text."""
    is_refused = body["outcome"] == Outcome.REFUSED
    if is_refused and str(body.get("code")).startswith("authn_"):
        return _LOGON
    try:
        return ACTIVITIES[Action(body["action"])]
    except ValueError:
        return _UNKNOWN_ACTIVITY


def ocsf_event(
    body: Members, *, origin: str, position: int, leaf_hash: bytes, product_version: str
) -> dict[str, Any]:
    """The event of a record at its place in a ledger; a JSON object.

    body: the members of its canonical text, format 1 to 3. metadata.uid is origin/position, the same however often the
    record is exported. Raises ValueError for a time that is none.
    """
    activity = activity_of(body)
    event = {
        **_classification(activity),
        **_outcome(body),
        "metadata": _metadata(body, origin, position, product_version),
        **_SHAPES[activity.ocsf_class.uid](body, activity, origin),
    }
    profiles = ["host"] if activity.ocsf_class is APPLICATION_LIFECYCLE else []
    if (name := body.get("model_name")) is not None:
        profiles.append("ai_operation")
        version = _present(version=body.get("model_version"))
        event["ai_model"] = {"ai_provider": "Internal", "name": name, **version}
    if profiles:
        event["metadata"]["profiles"] = profiles
    event["unmapped"] = {"leaf_hash": leaf_hash.hex(), **_unmapped(body, event)}
    return event


def _classification(activity: Activity) -> dict[str, Any]:
    kind = activity.ocsf_class
    return {
        "activity_id": activity.id,
        "activity_name": activity.name,
        "category_uid": kind.category_uid,
        "category_name": kind.category_name,
        "class_uid": kind.uid,
        "class_name": kind.name,
        "type_uid": kind.uid * 100 + activity.id,
        "type_name": f"{kind.name}: {activity.name}",
    }


def _outcome(body: Members) -> dict[str, Any]:
    action, outcome, code = body["action"], body["outcome"], body.get("code")
    severity_id = _severity(action, outcome, code)
    status_id, status = _STATUSES.get(outcome, _NO_STATUS)
    moment = datetime.fromisoformat(body["recorded_at"])
    return {
        "severity_id": severity_id,
        "severity": _SEVERITIES[severity_id],
        "status_id": status_id,
        "status": status,
        **_present(status_code=code, status_detail=body.get("reason")),
        "time": (moment - _EPOCH) // _MILLISECOND,
        "message": f"{action} {outcome}" if code is None else f"{action} {outcome}: {code}",
    }


def _severity(action: str, outcome: str, code: str | None) -> int:
    if action == Action.AUDIT_OUTAGE or code in _LEDGER_IN_DOUBT:
        return 4
    if outcome in (Outcome.ADMITTED, Outcome.ANSWERED) or code == Code.CLIENT_GONE:
        return 1
    if action in _LEDGER_CHECKS:
        return 4
    return 2 if outcome == Outcome.REFUSED else 3


def _metadata(body: Members, origin: str, position: int, product_version: str) -> dict[str, Any]:
    return {
        "version": SCHEMA_VERSION,
        "product": {"name": PRODUCT, "vendor_name": PRODUCT, "version": product_version},
        # Two exports of one record agree in this, so that whoever receives both can drop one.
        "uid": f"{origin}/{position}",
        "sequence": position,
        "log_name": origin,
        "log_provider": PRODUCT,
        "log_version": str(body["format"]),
        "event_code": body["action"],
        "original_time": body["recorded_at"],
        **_present(correlation_uid=body.get("request_id")),
    }


def _api_activity(body: Members, _activity: Activity, _origin: str) -> dict[str, Any]:
    request = _present(uid=body.get("request_id"))
    api = {"operation": body["action"], **({"request": request} if request else {})}
    return {"api": api, **_who_and_whence(body)}


def _datastore_activity(body: Members, activity: Activity, _origin: str) -> dict[str, Any]:
    return {
        "type_id": 3,
        "type": "Table",
        "table": {"name": activity.table},
        **_who_and_whence(body),
    }


def _application_lifecycle(body: Members, _activity: Activity, origin: str) -> dict[str, Any]:
    name = body.get("model_name")
    if name is None:
        app = {"name": PRODUCT, "uid": origin, "vendor_name": PRODUCT}
    else:
        app = {"name": name, **_present(version=body.get("model_version"))}
    # This class has no place for addresses and requests; who did it comes with the profile of the host.
    return {"app": app, "actor": _actor(body)}


def _authentication(body: Members, _activity: Activity, origin: str) -> dict[str, Any]:
    return {
        "user": _user(body) or _NOBODY,
        "dst_endpoint": {"name": origin, "svc_name": PRODUCT},
        "auth_protocol_id": 6,
        "auth_protocol": "OAUTH 2.0",
        "logon_type_id": 3,
        "logon_type": "Network",
        "is_remote": True,
        **_who_and_whence(body),
    }


def _account_change(body: Members, _activity: Activity, _origin: str) -> dict[str, Any]:
    # The token of such a record is the one that is denied, and not that of whoever denies it.
    return {"user": _denied(body), **_who_and_whence({**body, "token_id": None})}


_SHAPES = MappingProxyType(
    {
        ACCOUNT_CHANGE.uid: _account_change,
        AUTHENTICATION.uid: _authentication,
        APPLICATION_LIFECYCLE.uid: _application_lifecycle,
        API_ACTIVITY.uid: _api_activity,
        DATASTORE_ACTIVITY.uid: _datastore_activity,
    }
)


def _denied(body: Members) -> dict[str, Any]:
    # Whom a denial is about stands in the detail. One may be about a token or an issuer alone, and a user needs a name.
    named = {name: values[0] for name, values in parse_detail(body.get("detail")).items()}
    subject, issuer, token_id = named.get("subject"), named.get("issuer"), body.get("token_id")
    domain = _present(domain=issuer)
    if subject is not None:
        return {"uid": subject, **domain}
    if token_id is not None:
        return {"uid": token_id, "type_id": OTHER, "type": "Token", **domain}
    if issuer is not None:
        return {"uid": issuer, "type_id": OTHER, "type": "Issuer", **domain}
    return {"name": "unknown", "type_id": UNKNOWN, "type": "Unknown"}


def _who_and_whence(body: Members) -> dict[str, Any]:
    found = {"actor": _actor(body), "src_endpoint": _source(body)}
    request = _http_request(body)
    return found | {"http_request": request} if request else found


def _actor(body: Members) -> dict[str, Any]:
    actor: dict[str, Any] = _present(app_uid=body.get("client_id"))
    if user := _user(body):
        actor["user"] = user
    if (token_id := body.get("token_id")) is not None:
        actor["session"] = {"uid": token_id, **_present(issuer=body.get("issuer"))}
    if actor:
        return actor
    # The schema demands one. Without an address nobody called: the gateway acted by itself.
    return {"app_name": PRODUCT} if body.get("address") is None else {"user": _NOBODY}


def _user(body: Members) -> dict[str, Any]:
    subject = body.get("subject")
    return {} if subject is None else {"uid": subject, **_present(domain=body.get("issuer"))}


def _source(body: Members) -> dict[str, Any]:
    address = body.get("address")
    if address is None:
        return {"svc_name": body.get("client_id") or PRODUCT}
    # What is no address is one's pseudonym, or was cut.
    return {"ip": address} if _is_ip(address) else {"uid": address}


@lru_cache(maxsize=4096)
def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return len(text) <= _MAX_IP_CHARACTERS


def _http_request(body: Members) -> dict[str, Any]:
    method, route = body.get("method"), body.get("route")
    if method is None and route is None:
        return {}
    return {
        **_present(http_method=method if method in _METHODS else None),
        **({} if route is None else {"url": {"path": route}}),
        **_present(body_length=body.get("input_bytes"), uid=body.get("request_id")),
    }


def _unmapped(body: Members, event: Members) -> dict[str, Any]:
    placed = set(_PLACED)
    if "ai_model" in event:
        placed |= {"model_name", "model_version"}
    if "src_endpoint" in event:
        placed.add("address")
    if body.get("subject") is not None or "session" in event["actor"]:
        placed.add("issuer")
    if event["class_uid"] == ACCOUNT_CHANGE.uid and event["user"].get("uid") != body.get(
        "token_id"
    ):
        placed.remove("token_id")
    if "http_request" in event:
        placed |= {"route", "input_bytes"}
        placed |= {"method"} if body.get("method") in _METHODS else set()
    return {name: value for name, value in body.items() if value is not None and name not in placed}


def _present(**attributes: Any) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
