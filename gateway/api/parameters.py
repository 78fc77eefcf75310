"""The parameters of one prediction, parsed strictly from query or form strings.

Names, defaults and limits are those of the Ultralytics Platform's predict endpoint.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.errors import Code, RequestError

MIN_CONFIDENCE, MAX_CONFIDENCE, DEFAULT_CONFIDENCE = 0.01, 1.0, 0.25
MIN_IOU, MAX_IOU, DEFAULT_IOU = 0.0, 0.95, 0.7
MIN_IMAGE_SIZE_PIXELS, MAX_IMAGE_SIZE_PIXELS = 32, 1280
MIN_DECIMALS, MAX_DECIMALS, DEFAULT_DECIMALS = 0, 10, 5

# As many decimals as a program writes that computed its threshold: 0.1 + 0.2 is 0.30000000000000004.
_DECIMAL = re.compile(r"[0-9]{1,4}(\.[0-9]{0,20})?|\.[0-9]{1,20}")
_INTEGER = re.compile(r"[0-9]{1,6}")
_BOOLEANS: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}
_KNOWN = frozenset({"conf", "iou", "imgsz", "normalize", "decimals"})
_REFUSED: Mapping[str, str] = {
    "source": "the gateway fetches nothing: send the image itself as `file` or as the body",
}


@dataclass(frozen=True, slots=True)
class PredictParameters:
    """What one caller asked for.

    confidence, iou: 0..1. image_size_pixels: the side the model sees, None for the model's own.
    is_normalized: boxes as shares of the image's sides. decimals: digits kept in the answer.
    """

    confidence: float = DEFAULT_CONFIDENCE
    iou: float = DEFAULT_IOU
    image_size_pixels: int | None = None
    is_normalized: bool = False
    decimals: int = DEFAULT_DECIMALS


def unique_parameters(items: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The parameters by name. Raises RequestError (PARAMETER_INVALID) if one is given twice."""
    values = dict(items)
    if len(values) != len(items):
        # Which of two thresholds counts must not depend on which parser reads them.
        raise RequestError(Code.PARAMETER_INVALID, "a parameter is given twice: give each once")
    return values


def parse_parameters(values: Mapping[str, str]) -> PredictParameters:
    """The parameters in these strings.

    Raises RequestError (PARAMETER_INVALID) naming the parameter and what it takes; unknown names are refused,
    so that a misspelt threshold never passes silently.
    """
    for name in values:
        if name in _REFUSED:
            raise _invalid(name, _REFUSED[name])
        if name not in _KNOWN:
            raise _invalid(name[:40], f"unknown; known are {', '.join(sorted(_KNOWN))}")
    return PredictParameters(
        confidence=_number(values, "conf", DEFAULT_CONFIDENCE, MIN_CONFIDENCE, MAX_CONFIDENCE),
        iou=_number(values, "iou", DEFAULT_IOU, MIN_IOU, MAX_IOU),
        image_size_pixels=_integer(
            values, "imgsz", None, MIN_IMAGE_SIZE_PIXELS, MAX_IMAGE_SIZE_PIXELS
        ),
        is_normalized=_boolean(values, "normalize"),
        decimals=_integer(values, "decimals", DEFAULT_DECIMALS, MIN_DECIMALS, MAX_DECIMALS) or 0,
    )


def _number(
    values: Mapping[str, str], name: str, default: float, lowest: float, highest: float
) -> float:
    text = values.get(name)
    if text is None:
        return default
    number = float(text) if _DECIMAL.fullmatch(text) else math.nan
    if not lowest <= number <= highest:
        raise _invalid(name, f"must be a number from {lowest:g} to {highest:g}")
    return number


def _integer(
    values: Mapping[str, str], name: str, default: int | None, lowest: int, highest: int
) -> int | None:
    text = values.get(name)
    if text is None:
        return default
    if not (_INTEGER.fullmatch(text) and lowest <= int(text) <= highest):
        raise _invalid(name, f"must be a whole number from {lowest} to {highest}")
    return int(text)


def _boolean(values: Mapping[str, str], name: str) -> bool:
    text = values.get(name, "false").lower()
    if text not in _BOOLEANS:
        raise _invalid(name, "must be true or false")
    return _BOOLEANS[text]


def _invalid(name: str, message: str) -> RequestError:
    return RequestError(Code.PARAMETER_INVALID, f"parameter {name!r}: {message}")
