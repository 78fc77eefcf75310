"""What the commands about references print."""

import sys
from collections.abc import Mapping

from monitor.jobs.client_names import name_lines
from monitor.jobs.printing import print_json
from monitor.jobs.reference import StoredReference
from monitor.texts import shown


def print_reference(stored: StoredReference, *, clients: Mapping[str, str], as_json: bool) -> None:
    """What was stored; on standard error what was left out of it. clients: see monitor.jobs.client_names."""
    if stored.seen > stored.sample_count:
        print(f"monitor: kept {stored.sample_count} of {stored.seen} samples", file=sys.stderr)
    for note in stored.notes:
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
                "clients": dict(clients),
            }
        )
    else:
        print("\n".join([reference_line(stored), *name_lines(clients)]))


def reference_line(stored: StoredReference) -> str:
    """The same as one line for people."""
    slices = f", {len(stored.slices)} slices" if stored.slices else ""
    hours = "" if len(stored.hours) < 2 else f", hours {' and '.join(stored.hours)}"
    return shown(
        f"reference {stored.id} for {stored.model_name} {stored.model_version}: "
        f"{stored.sample_count} samples, {len(stored.features)} features{slices}{hours}, "
        f"from {stored.source}"
    )
