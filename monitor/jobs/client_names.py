"""Who the clients are whose digests stand in slices, found in the samples that are still stored. Writes nothing.

Rules: names are for the terminal of who reads the database already, and never for metrics, logs, webhooks or ledgers;
a bounded number of rows is read; a name is believed because its digest is the one that is asked for.
"""

import re
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from gateway.store.queries.samples import list_principals, list_principals_by_ids
from monitor.jobs.weighing import parse_remembered
from monitor.records import DriftState, MonitorError
from monitor.summaries import SliceKind, parse_slice
from monitor.tables.drift_queries import list_states
from monitor.texts import shown
from monitor.windows.slicing import client_slice

# Rows of a model version that are looked through for clients that no state remembers a sample of.
MAX_LOOKED_AT = 2_000
# Model versions whose samples are looked through for one list.
_MAX_VERSIONS = 16
# The newest samples that a slice remembers: the older of them may be deleted.
_OF_EACH_SLICE = 4
_MAX_NAME_CHARACTERS = 640
# As monitor.jobs.selecting words the source of a reference.
_IN_WORDS = re.compile(r"\bof client ([0-9a-f]{16})\b")

# By the text of the slice.
Names = Mapping[str, str]


def read_client_names(
    connection: Connection, model_name: str, model_version: str, slices: Iterable[str]
) -> dict[str, str]:
    """The principals of those of these slices that are of a client and that a stored sample of is found."""
    wanted = {text for text in slices if _is_of_client(text)}
    if not wanted:
        return {}
    ids = [
        each
        for state in _states(connection, model_name, model_version)
        if state.slice in wanted
        for each in _sample_ids(state)
    ]
    found = _matching(list_principals_by_ids(connection, ids), wanted)
    if len(found) < len(wanted):
        newest = list_principals(connection, model_name, model_version, newest=MAX_LOOKED_AT)
        found |= _matching(newest, wanted)
    return found


def read_names_of_versions(
    connection: Connection, slices: Iterable[tuple[str, str, str]]
) -> dict[str, str]:
    """The same of several model versions. slices: each with its model's name and version."""
    by_version: dict[tuple[str, str], set[str]] = {}
    for model_name, model_version, text in slices:
        if _is_of_client(text):
            by_version.setdefault((model_name, model_version), set()).add(text)
    found: dict[str, str] = {}
    for (model_name, model_version), texts in list(by_version.items())[:_MAX_VERSIONS]:
        found |= read_client_names(connection, model_name, model_version, texts)
    return found


def slices_in_words(source: str) -> list[str]:
    """The client slice that the words on what a reference was made of name, if any."""
    return [f"{SliceKind.CLIENT.value}={digest}" for digest in _IN_WORDS.findall(source)]


def with_name(slice_text: str, names: Names) -> str:
    """A slice with who it is beside it, for people."""
    name = names.get(slice_text)
    return slice_text if name is None else f"{slice_text} ({name})"


def name_lines(names: Names) -> list[str]:
    """Who each client is, for people."""
    return [shown(f"     {text} is {name}") for text, name in sorted(names.items())]


def _is_of_client(text: str) -> bool:
    try:
        return parse_slice(text).kind is SliceKind.CLIENT
    except ValueError:
        return False


def _states(connection: Connection, model_name: str, model_version: str) -> list[DriftState]:
    # Whoever asks for names is told of a broken state by what reads it to judge.
    try:
        return list_states(connection, model_name, model_version)
    except MonitorError:
        return []


def _sample_ids(state: DriftState) -> tuple[int, ...]:
    try:
        return parse_remembered(state.memory).window[-_OF_EACH_SLICE:]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return ()


def _matching(principals: Iterable[str], wanted: set[str]) -> dict[str, str]:
    found = {client_slice(principal).text: principal for principal in principals}
    return {text: name[:_MAX_NAME_CHARACTERS] for text, name in found.items() if text in wanted}
