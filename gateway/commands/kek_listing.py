"""`gateway keys list`: which KEKs are configured, and which files and sample keys need which of them."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from gateway.commands.opening import opened_store
from gateway.commands.process_memory import protect_process
from gateway.errors import KeyFileError, SealError
from gateway.sealing.files import list_sealed_files
from gateway.sealing.kek_specs import KekOpener, parse_spec, split_specs
from gateway.sealing.models_folder import find_unfinished
from gateway.sealing.rotation import HEAD_BYTES, unverified_kek_ids
from gateway.settings import GatewaySettings
from gateway.store.queries.sample_keys import list_sample_keys

_NO_SPEC = "(not shown)"


@dataclass(frozen=True, slots=True)
class ListedKek:
    """One KEK, configured or only named by what is wrapped for it.

    kek_id: None if it is configured and cannot be opened; problem says why. spec: None if it is not configured.
    files: wrapped for it. sole_files: opened by no other KEK that is configured here.
    """

    kek_id: str | None
    spec: str | None
    problem: str | None
    files: Sequence[str]
    sole_files: Sequence[str]
    sample_keys: int

    @property
    def kind(self) -> str | None:
        """file, env or pkcs11."""
        return None if self.spec is None else self.spec.partition(":")[0]


def list_keks(settings: GatewaySettings, *, as_json: bool) -> None:
    """Print every KEK and every sealed file; a KEK can go when nothing needs it."""
    protect_process()
    files, unreadable = _wrapped_files(settings.models_folder)
    with opened_store(settings) as store, store.connect() as connection:
        sample_keys = Counter(record.kek_id for record in list_sample_keys(connection))
    listed = _listed(settings, files, sample_keys)
    unfinished = [path.name for path in find_unfinished(settings.models_folder)]
    if as_json:
        print(json.dumps(_as_json(listed, files, unreadable) | {"unfinished": unfinished}))
        return
    console = Console()
    cut_short = [
        f"{name}: its writing was cut short; `gateway keys rotate` removes it"
        for name in unfinished
    ]
    for text in (*map(_lines, listed), *_file_lines(files, unreadable), *cut_short):
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _wrapped_files(folder: Path) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    files: dict[str, tuple[str, ...]] = {}
    unreadable: list[str] = []
    for path in list_sealed_files(folder):
        try:
            with path.open("rb") as file:
                files[path.name] = unverified_kek_ids(file.read(HEAD_BYTES))
        except (OSError, SealError):
            unreadable.append(path.name)
    return files, unreadable


def _listed(
    settings: GatewaySettings, files: Mapping[str, Sequence[str]], sample_keys: Mapping[str, int]
) -> list[ListedKek]:
    configured = _configured(split_specs(settings.keks))
    known = [kek_id for _, kek_id, _ in configured if kek_id is not None]
    others = {kek_id for ids in files.values() for kek_id in ids} | set(sample_keys)
    rows = configured + [(None, kek_id, None) for kek_id in sorted(others - set(known))]
    return [
        ListedKek(
            kek_id=kek_id,
            spec=spec,
            problem=problem,
            files=[name for name, ids in files.items() if kek_id in ids],
            sole_files=[
                name
                for name, ids in files.items()
                if kek_id in ids and not {one for one in ids if one != kek_id} & set(known)
            ],
            sample_keys=sample_keys.get(kek_id or "", 0),
        )
        for spec, kek_id, problem in rows
    ]


def _configured(specs: Sequence[str]) -> list[tuple[str | None, str | None, str | None]]:
    opener = KekOpener()
    found: list[tuple[str | None, str | None, str | None]] = []
    for text in specs:
        try:
            # Read first: what is no spec may hold a secret that somebody put there, and is not shown.
            spec = parse_spec(text)
        except KeyFileError as exc:
            found.append((_NO_SPEC, None, exc.message))
            continue
        try:
            found.append((str(spec), opener.open(spec).kek_id, None))
        except KeyFileError as exc:
            found.append((str(spec), None, exc.message))
    return found


def _lines(kek: ListedKek) -> str:
    if kek.problem is not None:
        # One that was not opened has no id, so what it wraps is unknown: the cause is all there is to say.
        return f"(cannot be opened)  {kek.spec}: {kek.problem}"
    return (
        f"{kek.kek_id}  {kek.spec or 'not configured'}\n"
        f"    wraps {len(kek.files)} sealed files, {len(kek.sole_files)} of which no other KEK here opens, "
        f"and {kek.sample_keys} sample keys\n    {_state(kek)}"
    )


def _state(kek: ListedKek) -> str:
    if not kek.sole_files and not kek.sample_keys:
        return "nothing needs it"
    return "needed" if kek.spec is not None else "needed, and not configured"


def _file_lines(files: Mapping[str, Sequence[str]], unreadable: Sequence[str]) -> list[str]:
    lines = [f"{name}: {', '.join(ids)}" for name, ids in files.items()]
    return lines + [f"{name}: no sealed model of this format" for name in unreadable]


def _as_json(
    listed: Sequence[ListedKek], files: Mapping[str, Sequence[str]], unreadable: Sequence[str]
) -> dict[str, object]:
    keks = [
        {
            "kek_id": kek.kek_id,
            "kind": kek.kind,
            "where": kek.spec,
            "problem": kek.problem,
            "files": list(kek.files),
            "sole_files": list(kek.sole_files),
            "sample_keys": kek.sample_keys,
        }
        for kek in listed
    ]
    by_file = {name: list(ids) for name, ids in files.items()}
    return {"keks": keks, "files": by_file, "unreadable": list(unreadable)}
