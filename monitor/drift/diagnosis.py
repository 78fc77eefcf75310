"""What changed, in words and numbers: the worst feature with its numbers, the others by direction, the pattern.

Rules: pure; a direction is that of the effect, so that a change in a part of the samples has one, too; a share of
missing values that moved says more than the values that are left; words exist for known features, any other is named
as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.drift.patterns import Pattern, nearest_pattern
from monitor.drift.scores import chance_effect, effect_of
from monitor.drift.words import (
    COUNTS,
    DIRECTION_WORDS,
    FITTED_WORDS,
    IMAGE_WORDS,
    NEEDS_OBJECTS,
    NOUNS,
    OUTPUT_WORDS,
    UNITS,
)
from monitor.ranks import RankedValues, equally_likely
from monitor.records import FeatureScore, Window

MAX_SENTENCE_CHARACTERS = 400
# The worst few tell the story; the rest are in the metrics and the report.
MAX_NAMED_FEATURES = 6
# A share of missing values that moved by this much says more than the values that are left.
MISSING_SHARE_CHANGE = 0.2
CLASS_COUNT_PREFIX = "class_count_"
_DIRECTION_PREFIX = "embedding_"
_MAX_CLASS_NAME_CHARACTERS = 40
# Values that stand for a reference; more change no word.
_REFERENCE_VALUES = 1000
_NEARLY_ALL = 0.995


@dataclass(frozen=True, slots=True)
class Change:
    """What one feature was and is.

    before, after: median, of counts the mean, of the values that are not missing, in the feature's unit; None without
    any. missing_before, missing_after: shares, 0..1. effect: -1..1 (monitor.drift.scores.effect_of), 0 within chance.
    """

    feature: str
    before: float | None
    after: float | None
    missing_before: float
    missing_after: float
    effect: float

    @property
    def has_other_gaps(self) -> bool:
        """Whether clearly more values are missing than before, or clearly fewer."""
        return abs(self.missing_after - self.missing_before) >= MISSING_SHARE_CHANGE


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """sentence: at most 400 characters, empty if nothing is told. changes: of the told features, the worst first."""

    sentence: str
    changes: tuple[Change, ...] = ()
    pattern: Pattern | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """The told features, the worst first."""
        return tuple(change.feature for change in self.changes)

    def describe(self) -> dict[str, Any]:
        """The diagnosis as JSON values."""
        return {
            "sentence": self.sentence,
            "pattern": None if self.pattern is None else _describe_pattern(self.pattern),
            "changes": [_describe_change(change) for change in self.changes],
        }


def drifted_features(scores: Sequence[FeatureScore]) -> tuple[str, ...]:
    """The features above their threshold, worst first."""
    drifted = [score for score in scores if score.is_drifted]
    worst_first = sorted(drifted, key=lambda score: (score.threshold - score.score, score.feature))
    return tuple(score.feature for score in worst_first)


def explain(
    told: Sequence[str],
    reference: Mapping[str, RankedValues],
    window: Window,
    *,
    class_names: Sequence[str],
) -> Diagnosis:
    """How a window differs from the reference.

    told: the features that carry the evidence or exceed their thresholds, worst first; what one side lacks is left out.
    reference: of one stratum, whose hours the samples have (monitor.drift.scores.comparable). class_names: of the
    model, by class id; may be empty. A window without samples, or nothing to tell, has an empty sentence.
    """
    known = [name for name in reference if name in window.features and window.sample_count]
    wanted = [name for name in told if name in known][:MAX_NAMED_FEATURES]
    if not wanted:
        return Diagnosis("")
    effects = {name: _sure_effect(reference[name], window.features[name]) for name in known}
    changes = tuple(
        _change(name, reference[name], window.features[name], effects[name]) for name in wanted
    )
    pattern = nearest_pattern(effects)
    return Diagnosis(_sentence(changes, pattern, class_names), changes, pattern)


def _sure_effect(reference: RankedValues, values: NDArray[np.floating]) -> float:
    effect = effect_of(reference, values)
    return effect if abs(effect) > chance_effect(reference.sample_count, len(values)) else 0.0


def _change(
    name: str, reference: RankedValues, values: NDArray[np.floating], effect: float
) -> Change:
    before = equally_likely(reference, count=_REFERENCE_VALUES)
    return Change(
        name,
        _centre(name, before),
        _centre(name, values),
        float(np.isneginf(before).mean()),
        float(np.isneginf(values).mean()),
        effect,
    )


def _centre(name: str, values: NDArray[np.floating]) -> float | None:
    known = values[np.isfinite(values)].astype(np.float64)
    if not len(known):
        return None
    is_count = name in COUNTS or name.startswith(CLASS_COUNT_PREFIX)
    return float(known.mean() if is_count else np.median(known))


def _sentence(
    changes: Sequence[Change], pattern: Pattern | None, class_names: Sequence[str]
) -> str:
    numbers = _numbers_clause(changes[0], class_names)
    others = changes[1:] if numbers else changes
    adjectives = [words for change in others if (words := _adjective(change))]
    clauses = [_clause(change, class_names) for change in others if not _adjective(change)]
    # Two features may say the same in words; each word once, in order.
    images = [f"images are {_join(_once(adjectives))} than the reference"] if adjectives else []
    parts = _once([*numbers, *images, *clauses])
    likeness = f"; looks like {pattern.words}" if pattern is not None else ""
    while len(parts) > 1 and len("; ".join(parts) + likeness) > MAX_SENTENCE_CHARACTERS:
        parts.pop()
    return ("; ".join(parts) + likeness)[:MAX_SENTENCE_CHARACTERS]


def _numbers_clause(change: Change, class_names: Sequence[str]) -> list[str]:
    """The clause of the worst feature, if its numbers say something; else none."""
    before, after = _number(change.before), _number(change.after)
    if change.before is None or change.after is None or before == after:
        return []
    if change.effect == 0 or change.has_other_gaps or _is_direction(change.feature):
        return []
    unit = UNITS.get(change.feature, "")
    subject = NOUNS.get(change.feature, _plain(change.feature))
    if change.feature.startswith(CLASS_COUNT_PREFIX):
        subject, unit = f"the count of {_class_words(change.feature, class_names)}", "an image"
    moved = "rose" if change.after > change.before else "fell"
    return [f"{subject} {moved} from {before} to {after} {unit}".rstrip()]


def _adjective(change: Change) -> str | None:
    if change.effect == 0 or change.has_other_gaps or change.feature not in IMAGE_WORDS:
        return None
    return _pick(IMAGE_WORDS[change.feature], change.effect)


def _clause(change: Change, class_names: Sequence[str]) -> str:
    name = change.feature
    if change.has_other_gaps:
        return _gap_clause(change)
    if _is_direction(name):
        return DIRECTION_WORDS
    if change.effect == 0:
        return f"{_plain(name)} is spread differently"
    if name.startswith(CLASS_COUNT_PREFIX):
        words = _class_words(name, class_names)
        return f"{_pick(('more', 'fewer'), change.effect)} {words} are found"
    words_of = OUTPUT_WORDS.get(name) or FITTED_WORDS.get(name)
    if words_of is not None:
        return _pick(words_of, change.effect)
    return f"{_plain(name)} is {_pick(('higher', 'lower'), change.effect)}"


def _gap_clause(change: Change) -> str:
    what = "no objects are found"
    if change.feature not in NEEDS_OBJECTS:
        is_embedding = change.feature.startswith(_DIRECTION_PREFIX)
        what = f"{'the embedding' if is_embedding else _plain(change.feature)} is missing"
    if change.missing_after >= _NEARLY_ALL:
        return f"{what} any more" if change.feature in NEEDS_OBJECTS else what
    after, before = 100 * change.missing_after, 100 * change.missing_before
    return f"{what} in {after:.0f} % of images instead of {before:.0f} %"


def _class_words(name: str, class_names: Sequence[str]) -> str:
    suffix = name.removeprefix(CLASS_COUNT_PREFIX)
    if not suffix.isdecimal():
        return "objects of other classes"
    class_id = int(suffix)
    known = class_names[class_id] if class_id < len(class_names) else suffix
    # Whoever seals a model names its classes; a line of an alarm stays a line.
    shown = "".join(c if c.isprintable() else "?" for c in known[:_MAX_CLASS_NAME_CHARACTERS])
    return f"objects of class {shown}"


def _is_direction(name: str) -> bool:
    return name.removeprefix(_DIRECTION_PREFIX).isdecimal()


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _pick(words: tuple[str, str], change: float) -> str:
    return words[0] if change > 0 else words[1]


def _once(words: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _join(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _describe_pattern(pattern: Pattern) -> dict[str, Any]:
    return {
        "name": pattern.name,
        "words": pattern.words,
        "similarity": round(pattern.similarity, 2),
    }


def _describe_change(change: Change) -> dict[str, Any]:
    return {
        "feature": change.feature,
        "before": _rounded(change.before),
        "after": _rounded(change.after),
        "unit": UNITS.get(change.feature, ""),
        "missing_before": round(change.missing_before, 3),
        "missing_after": round(change.missing_after, 3),
        "effect": round(change.effect, 3),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
