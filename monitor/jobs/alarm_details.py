"""What is known of an alarm that rings, in lines for people: since when, what it looks like, harm and why, examples.

Rules: pure; details are what a table held, so what has another shape than ours is left out and never raises.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from monitor.records import Alarm, AlarmState, Harm

_SHOWN_EXAMPLES = 2


def detail_lines(alarm: Alarm) -> list[str]:
    """At most four lines, not indented; none of an alarm that is neither pending nor active."""
    if not (alarm.state.is_active or alarm.state is AlarmState.PENDING):
        return []
    details = alarm.details
    words = _text(details.get("pattern"), "words")
    lines = [_since_line(details.get("since"))]
    lines.append(f"looks like {words}" if words else "")
    lines.append(_harm_line(alarm))
    lines.append(_example_line(details.get("examples")))
    return [line for line in lines if line]


def _since_line(since: Any) -> str:
    try:
        at = datetime.fromisoformat(since).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return ""
    return f"changed since {at:%Y-%m-%d %H:%M:%S} UTC"


def _harm_line(alarm: Alarm) -> str:
    why = _text(alarm.details.get("harm"), "why")
    if not why:
        return ""
    verdict = "harm unknown" if alarm.harm is Harm.UNKNOWN else alarm.harm.value
    return f"{verdict}: {why}"


def _example_line(examples: Any) -> str:
    before, after = _ids(examples, "before"), _ids(examples, "after")
    if not after:
        return ""
    return f"examples: {', '.join(before) or 'none from before'} -> {', '.join(after)}"


def _text(value: Any, name: str) -> str:
    text = value.get(name) if isinstance(value, Mapping) else None
    return text if isinstance(text, str) else ""


def _ids(examples: Any, name: str) -> list[str]:
    found = examples.get(name) if isinstance(examples, Mapping) else None
    if not isinstance(found, Sequence) or isinstance(found, str):
        return []
    return [each for each in found if isinstance(each, str)][:_SHOWN_EXAMPLES]
