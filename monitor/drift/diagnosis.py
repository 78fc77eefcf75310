"""What drifted, in plain words: the direction of each feature from its medians, worst first.

Words exist for the features the gateway is known to send; any other is named as it is, so a new feature needs no
change here.
"""

from collections.abc import Sequence

import numpy as np

from monitor.drift.words import IMAGE_WORDS, OUTPUT_WORDS
from monitor.records import FeatureArray, FeatureScore, Window

# The worst few tell the story; the rest are in the metrics and the report.
MAX_NAMED_FEATURES = 6
# A share of missing values that moved by this much says more than the values that are left.
MISSING_SHARE_CHANGE = 0.2
CLASS_COUNT_PREFIX = "class_count_"


def drifted_features(scores: Sequence[FeatureScore]) -> tuple[str, ...]:
    """The features above their threshold, worst first."""
    drifted = [score for score in scores if score.is_drifted]
    worst_first = sorted(drifted, key=lambda score: (score.threshold - score.score, score.feature))
    return tuple(score.feature for score in worst_first)


def diagnose(
    drifted: Sequence[str], reference: Window, window: Window, *, class_names: Sequence[str]
) -> str:
    """One sentence that says how the window differs from the reference; empty if nothing drifted.

    drifted: features of both windows, worst first. class_names: of the model, by class id; may be empty.
    """
    named = drifted[:MAX_NAMED_FEATURES]
    adjectives: list[str] = []
    clauses: list[str] = []
    for name in named:
        before, after = reference.features[name], window.features[name]
        change = direction(before, after)
        if change and name in IMAGE_WORDS and not _missing_change(before, after):
            adjectives.append(_pick(IMAGE_WORDS[name], change))
        else:
            clauses.append(_clause(name, before, after, class_names))
    # Two features may say the same in words; each word once, in order.
    parts = [f"images are {_join(_once(adjectives))} than the reference"] if adjectives else []
    return "; ".join(parts + _once(clauses))


def direction(before: FeatureArray, after: FeatureArray) -> int:
    """1 if values went up, -1 if down, 0 if neither median nor mean moved; missing values do not count."""
    known_before, known_after = before[np.isfinite(before)], after[np.isfinite(after)]
    if len(known_before) == 0 or len(known_after) == 0:
        return 0
    by_median = float(np.median(known_after) - np.median(known_before))
    return int(np.sign(by_median or np.mean(known_after) - np.mean(known_before)))


def _clause(
    name: str, before: FeatureArray, after: FeatureArray, class_names: Sequence[str]
) -> str:
    missing = _missing_change(before, after)
    if missing:
        return f"{_plain(name)} is missing {_pick(('more', 'less'), missing)} often"
    change = direction(before, after)
    if change == 0:
        return f"{_plain(name)} is spread differently"
    if name.startswith(CLASS_COUNT_PREFIX):
        return f"{_pick(('more', 'fewer'), change)} {_class_words(name, class_names)} are found"
    if name in OUTPUT_WORDS:
        return _pick(OUTPUT_WORDS[name], change)
    return f"{_plain(name)} is {_pick(('higher', 'lower'), change)}"


def _missing_change(before: FeatureArray, after: FeatureArray) -> int:
    """1 if clearly more values are missing than in the reference, -1 if clearly fewer, else 0."""
    change = float(np.mean(np.isneginf(after)) - np.mean(np.isneginf(before)))
    return int(np.sign(change)) if abs(change) >= MISSING_SHARE_CHANGE else 0


def _class_words(name: str, class_names: Sequence[str]) -> str:
    suffix = name.removeprefix(CLASS_COUNT_PREFIX)
    if not suffix.isdecimal():
        return "objects of other classes"
    class_id = int(suffix)
    known = class_id < len(class_names)
    return f"objects of class {class_names[class_id] if known else class_id}"


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _pick(words: tuple[str, str], change: int) -> str:
    return words[0] if change > 0 else words[1]


def _once(words: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _join(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
