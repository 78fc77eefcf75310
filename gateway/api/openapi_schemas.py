"""What the gateway's JSON looks like, as JSON Schema 2020-12: answers, problems and the bodies of changes.

Rules: literal schemas, with limits taken from the code that enforces them; what callers send is closed, because an
unknown member is refused; what they get is open, because later releases may say more.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.api import parameters
from gateway.api.openapi_audit import audit_schemas
from gateway.api.problems import STATUS
from gateway.models.changes import MIN_SHARE
from gateway.store.records import Stage, Traffic

Schema = dict[str, Any]

NAME_PATTERN = "^[a-z0-9][a-z0-9._-]{0,62}$"
VERSION_PATTERN = "^[0-9A-Za-z][0-9A-Za-z.+_-]{0,62}$"

_SHA256: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_PIXELS: Schema = {"type": "integer", "minimum": 1}
_MILLISECONDS: Schema = {"type": "number", "minimum": 0, "description": "milliseconds"}
_SECONDS: Schema = {"type": "number", "minimum": 0, "description": "seconds"}
_STATEMENTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_TEXT: Schema = {"type": "string"}
_CLASS_NAMES: Schema = {"type": "array", "items": _TEXT}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_SIZE: Schema = {
    "type": "array",
    "items": _PIXELS,
    "minItems": 2,
    "maxItems": 2,
    "description": "height and width, pixels",
}


def ref(name: str) -> Schema:
    """A reference to one of these schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def schemas() -> dict[str, Schema]:
    """All of them by name."""
    return {
        **_problem(),
        **_prediction(),
        **_models(),
        **_changes(),
        **audit_schemas(),
        **_discovery(),
    }


def predict_parameters() -> dict[str, tuple[Schema, str]]:
    """The parameters of a prediction: each one's schema, and what it means."""
    p = parameters
    default_size = "The side, in pixels, that the model sees; left out, the model's own."
    return {
        "conf": (
            _number(p.MIN_CONFIDENCE, p.MAX_CONFIDENCE, p.DEFAULT_CONFIDENCE),
            "The least confidence of a detection.",
        ),
        "iou": (
            _number(p.MIN_IOU, p.MAX_IOU, p.DEFAULT_IOU),
            "Boxes of a class that overlap more are taken for one.",
        ),
        "imgsz": (
            {
                "type": "integer",
                "minimum": p.MIN_IMAGE_SIZE_PIXELS,
                "maximum": p.MAX_IMAGE_SIZE_PIXELS,
            },
            default_size,
        ),
        "normalize": (
            {"type": "boolean", "default": False},
            "Coordinates as shares of the image's sides instead of pixels.",
        ),
        "decimals": (
            {
                "type": "integer",
                "minimum": p.MIN_DECIMALS,
                "maximum": p.MAX_DECIMALS,
                "default": p.DEFAULT_DECIMALS,
            },
            "Digits kept after the point.",
        ),
    }


def predict_form() -> Schema:
    """A multipart form: the image as `file` or `image`, and the parameters."""
    image: Schema = {"type": "string", "contentMediaType": "application/octet-stream"}
    fields = {
        name: {**schema, "description": description}
        for name, (schema, description) in predict_parameters().items()
    }
    return {
        "type": "object",
        "properties": {"file": image, "image": image, **fields},
        "oneOf": [{"required": ["file"]}, {"required": ["image"]}],
        "additionalProperties": False,
    }


def _number(lowest: float, highest: float, default: float) -> Schema:
    return {"type": "number", "minimum": lowest, "maximum": highest, "default": default}


def _object(properties: Mapping[str, Schema], *, optional: Iterable[str] = ()) -> Schema:
    required = [name for name in properties if name not in set(optional)]
    return {"type": "object", "properties": dict(properties), "required": required}


def _closed(schema: Schema) -> Schema:
    return {**schema, "additionalProperties": False}


def _array(items: Schema, **limits: int) -> Schema:
    return {"type": "array", "items": items, **limits}


def _problem() -> dict[str, Schema]:
    properties: dict[str, Schema] = {
        "type": {"type": "string", "pattern": "^urn:gatewatch:problem:[a-z_]+$"},
        "title": _TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {**_TEXT, "description": "cause and fix, for people"},
        "code": {"enum": sorted(code.value for code in STATUS), "description": "for programs"},
        "request_id": {
            "type": "string",
            "format": "uuid",
            "description": "finds the audit records of this request",
        },
    }
    return {"Problem": {**_object(properties), "description": "RFC 9457"}}


def _prediction() -> dict[str, Schema]:
    metadata = {
        "imageCount": {"const": 1},
        "functionTimeCall": _SECONDS,
        "functionTimeAlive": _SECONDS,
        "model": {"type": "string", "description": "NAME@VERSION"},
        "task": {"enum": ["detect", "segment", "pose", "obb", "classify"]},
        "classNames": _CLASS_NAMES,
        "precision": _TEXT,
        "version": _STATEMENTS,
    }
    speed = dict.fromkeys(("preprocess", "inference", "postprocess"), _MILLISECONDS)
    image = {"shape": _SIZE, "speed": _object(speed), "results": _array(ref("Result"))}
    return {
        "Prediction": _object(
            {
                "images": _array(_object(image), minItems=1, maxItems=1),
                "metadata": _object(metadata),
            }
        ),
        "Result": _result(),
        "Box": _box(),
        "Points": _object(
            {axis: _array({"type": "number"}) for axis in ("x", "y", "visible")},
            optional=["visible"],
        ),
    }


def _result() -> Schema:
    properties: dict[str, Schema] = {
        "name": {**_TEXT, "description": "of the class"},
        "class": _COUNT,
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "box": {**ref("Box"), "description": "absent for task classify"},
        "segments": {**ref("Points"), "description": "the outline, for task segment"},
        "keypoints": {**ref("Points"), "description": "for task pose"},
    }
    return _object(properties, optional=["box", "segments", "keypoints"])


def _box() -> Schema:
    corners = {f"{axis}{n}": {"type": "number"} for n in (1, 2, 3, 4) for axis in ("x", "y")}
    schema = _object(corners, optional=["x3", "y3", "x4", "y4"])
    description = "two opposite corners; for task obb all four. Pixels, or shares of the sides."
    return {**schema, "description": description}


def _models() -> dict[str, Schema]:
    common: dict[str, Schema] = {
        "version": {"type": "string", "pattern": VERSION_PATTERN},
        "stage": {"enum": [stage.value for stage in Stage]},
        "precision": _TEXT,
        "inputSize": _SIZE,
        "sha256": {**_SHA256, "description": "of the payload before it was sealed"},
    }
    name: Schema = {"type": "string", "pattern": NAME_PATTERN}
    served = {"name": name, **common, "classNames": _CLASS_NAMES}
    served["stage"] = {"const": Stage.PRODUCTION.value}
    model = {
        "name": name,
        "isServed": {"type": "boolean"},
        "versions": _array(ref("ModelVersion"), minItems=1),
    }
    return {
        "ServedModel": _object(served),
        "Model": _object(model),
        "Models": _object({"models": _array(ref("Model"))}),
        "ModelVersion": _model_version(common),
    }


def _model_version(common: Mapping[str, Schema]) -> Schema:
    failure = {"code": _TEXT, "attempts": {"type": "integer", "minimum": 1}}
    properties: dict[str, Schema] = {
        **common,
        "traffic": {"enum": [traffic.value for traffic in Traffic]},
        "share": {"type": "number", "minimum": 0, "maximum": 1},
        "task": _TEXT,
        "engine": _TEXT,
        "registeredAt": {"type": "string", "format": "date-time"},
        "isLoaded": {"type": "boolean"},
        "madeWith": {**_STATEMENTS, "description": "where it is loaded: what sealed it"},
        "gates": {**_STATEMENTS, "description": "where it is loaded: what was proved of it"},
        "loadFailure": {**_object(failure), "description": "why it should be loaded and is not"},
    }
    return _object(properties, optional=["madeWith", "gates", "loadFailure"])


def _changes() -> dict[str, Schema]:
    version: Schema = {"type": "string", "pattern": VERSION_PATTERN}
    share: Schema = {"type": "number", "minimum": MIN_SHARE, "maximum": 1}
    directed = [traffic.value for traffic in Traffic if traffic is not Traffic.NONE]
    some = {"version": version, "mode": {"enum": directed}, "share": share}
    none = {"version": version, "mode": {"const": Traffic.NONE.value}, "share": {"const": 0}}
    return {
        "VersionChange": _closed(_object({"version": version})),
        "EmptyChange": _closed(_object({})),
        "TrafficChange": {
            "oneOf": [_closed(_object(some)), _closed(_object(none, optional=["share"]))]
        },
    }


def _discovery() -> dict[str, Schema]:
    url: Schema = {"type": "string", "format": "uri"}
    properties: dict[str, Schema] = {
        "resource": url,
        "resource_name": _TEXT,
        "authorization_servers": _array(url, minItems=1),
        "bearer_methods_supported": {"const": ["header"]},
        "tls_client_certificate_bound_access_tokens": {"type": "boolean"},
        "dpop_signing_alg_values_supported": _array(_TEXT, minItems=1),
    }
    optional = ["authorization_servers", "dpop_signing_alg_values_supported"]
    return {
        "ResourceMetadata": {**_object(properties, optional=optional), "description": "RFC 9728"},
        "OpenApi": {**_object({"openapi": _TEXT}), "additionalProperties": True},
    }
