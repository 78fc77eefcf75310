"""What the commands about references print."""

import sys
from collections.abc import Mapping, Sequence

from monitor.jobs.client_names import name_lines
from monitor.jobs.printing import print_json
from monitor.jobs.reference import StoredReference
from monitor.texts import shown
from monitor.windows.choosing import LeftOut, Omission
from monitor.windows.summarise import MIN_SLICE_SAMPLES

# Of each reason; --json has all.
_MAX_NAMES = 20
_REASONS = {
    Omission.SLOTS: "because all of MONITOR_MAX_SLICES are taken, or their client's share of them is",
    Omission.ROOM: "because a reference of this many features and hours has no room for them",
    Omission.HOURS: f"because no band of --hours has {MIN_SLICE_SAMPLES} of them",
}


def print_reference(stored: StoredReference, *, clients: Mapping[str, str], as_json: bool) -> None:
    """What was stored; on standard error what was left out of it. clients: see monitor.jobs.client_names."""
    if stored.seen > stored.sample_count:
        print(f"monitor: kept {stored.sample_count} of {stored.seen} samples", file=sys.stderr)
    for note in (*stored.notes, *left_out_lines(stored.left_out)):
        print(f"monitor: {note}", file=sys.stderr)
    if as_json:
        print_json(
            {
                "id": stored.id,
                "model": stored.model_name,
                "version": stored.model_version,
                "samples": stored.sample_count,
                "features": list(stored.features),
                "slices": list(stored.slices),
                "hours": list(stored.hours),
                "source": stored.source,
                "bytes": stored.size_bytes,
                "notes": list(stored.notes),
                "left_out": [{"slice": o.slice.text, "why": o.why.value} for o in stored.left_out],
                "clients": dict(clients),
            }
        )
    else:
        print("\n".join([reference_line(stored), *name_lines(clients)]))


def left_out_lines(left_out: Sequence[LeftOut]) -> list[str]:
    """The cameras and clients that have samples enough and are not watched on their own, a line for each reason."""
    lines = []
    for why, reason in _REASONS.items():
        names = [each.slice.text for each in left_out if each.why is why]
        if names:
            more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
            lines.append(
                f"{len(names)} with {MIN_SLICE_SAMPLES} samples and more are not watched on their "
                f"own, {reason}: {', '.join(names[:_MAX_NAMES])}{more}"
            )
    return lines


def reference_line(stored: StoredReference) -> str:
    """The same as one line for people."""
    slices = f", {len(stored.slices)} slices" if stored.slices else ""
    hours = "" if len(stored.hours) < 2 else f", hours {' and '.join(stored.hours)}"
    return shown(
        f"reference {stored.id} for {stored.model_name} {stored.model_version}: "
        f"{stored.sample_count} samples, {len(stored.features)} features{slices}{hours}, "
        f"from {stored.source}"
    )
