"""Which features are watched: what the reference holds, less what the operator ignores.

Constant features (the width of a fixed camera) stay in: as long as they keep their value they score 0, and when they
change that is drift. Features that the window has but the reference lacks cannot be judged and are left out.
"""

from collections.abc import Collection, Iterable


def watched_features(reference: Iterable[str], *, ignored: Collection[str]) -> tuple[str, ...]:
    """The names to judge, of those in a reference, sorted, so that scores, metrics and reports agree on the order."""
    return tuple(sorted(name for name in reference if name not in ignored))
