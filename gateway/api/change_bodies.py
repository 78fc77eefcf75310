"""What an operator asks for, parsed strictly from a small JSON body.

Rules: an object with exactly the members that the route knows, each once, of exactly its type; everything else is
refused with what to send instead, because a misspelt member must not promote anything.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from gateway.audit.details import format_detail
from gateway.errors import Code, RequestError
from gateway.models.changes import SHARE_RULE, why_share_unfit
from gateway.models.names import is_model_version
from gateway.pipeline import Change
from gateway.store.records import Traffic

MAX_BODY_BYTES = 4096


@dataclass(frozen=True, slots=True)
class VersionChange(Change):
    """A change of one version."""

    version: str = ""


@dataclass(frozen=True, slots=True)
class TrafficChange(VersionChange):
    """What a version is to get. share: MIN_SHARE to 1, or 0 without traffic."""

    traffic: Traffic = Traffic.NONE
    share: float = 0.0


def parse_version_change(unverified_body: bytes) -> VersionChange:
    """`{"version": "2"}`. Raises RequestError."""
    members = _members(unverified_body, required={"version"}, optional=())
    return VersionChange(version=_version(members))


def parse_empty_change(unverified_body: bytes) -> Change:
    """`{}` or nothing at all. Raises RequestError."""
    if unverified_body:
        _members(unverified_body, required=(), optional=())
    return Change()


def parse_traffic_change(unverified_body: bytes) -> TrafficChange:
    """`{"version": "2", "mode": "canary", "share": 0.1}`, or without a share for "none". Raises RequestError."""
    members = _members(unverified_body, required={"version", "mode"}, optional={"share"})
    version, traffic = _version(members), _traffic(members["mode"])
    share = _share(members, traffic)
    detail = format_detail(traffic=traffic.value, share=share)
    return TrafficChange(version=version, detail=detail, traffic=traffic, share=share)


def _members(
    unverified_body: bytes, *, required: Collection[str], optional: Collection[str]
) -> dict[str, Any]:
    try:
        value = json.loads(
            unverified_body.decode("utf-8"),
            object_pairs_hook=_unique_members,
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError) as exc:
        raise RequestError(Code.BODY_INVALID, "the body is not one JSON object") from exc
    if not isinstance(value, dict):
        raise RequestError(Code.BODY_INVALID, "the body is not one JSON object")
    missing = set(required) - value.keys()
    unknown = value.keys() - set(required) - set(optional)
    if missing or unknown:
        wanted = ", ".join([*sorted(required), *(f"{name} (optional)" for name in optional)])
        raise _invalid(f"the body must have exactly these members: {wanted or 'none'}")
    return value


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _version(members: dict[str, Any]) -> str:
    version = members["version"]
    if type(version) is not str or not is_model_version(version):
        raise _invalid('version must be the text of a version, such as "2"')
    return version


def _traffic(mode: object) -> Traffic:
    modes = [traffic.value for traffic in Traffic]
    if type(mode) is not str or mode not in modes:
        raise _invalid(f"mode must be one of {', '.join(modes)}")
    return Traffic(mode)


def _share(members: dict[str, Any], traffic: Traffic) -> float:
    share = members.get("share", 0)
    # bool is an int to Python.
    if type(share) is not float and type(share) is not int:
        raise _invalid(SHARE_RULE)
    mistake = why_share_unfit(traffic, share)
    if mistake is not None:
        raise _invalid(mistake)
    return float(share)


def _invalid(message: str) -> RequestError:
    return RequestError(Code.PARAMETER_INVALID, message)
