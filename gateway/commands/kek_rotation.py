"""`gateway keys rotate`: every sealed file and every sample key, wrapped for exactly the KEKs that are wanted.

Rules: nothing is changed before every new KEK was opened and every file could be; each file is replaced whole or not
at all, and one that is done is left alone, so the command can be run again after a crash; bodies are not touched; of
two rotations at once one is refused.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from sqlalchemy import Engine

from gateway.audit.details import format_detail
from gateway.audit.events import Action
from gateway.commands.opening import (
    open_trusted_signers,
    opened_store,
    operator_event,
    recorded,
    utc_now,
)
from gateway.commands.process_memory import protect_process
from gateway.commands.steps import Steps
from gateway.errors import Code, GatewayError, KeyFileError, OperatorError, SealError
from gateway.sealing.files import list_sealed_files, read_sealed_file, replace_sealed_file
from gateway.sealing.kek_specs import KekOpener, open_keks, parse_spec, split_specs
from gateway.sealing.keys import KeyProvider
from gateway.sealing.models_folder import find_unfinished, remove_unfinished, rotating_alone
from gateway.sealing.rotation import is_wrapped_for, rewrap
from gateway.sealing.sample_keys import rewrap_sample_key
from gateway.sealing.signers import TrustedSigner
from gateway.settings import GatewaySettings
from gateway.store.database import write_transaction
from gateway.store.queries.sample_keys import list_sample_keys, replace_sample_key
from gateway.store.records import WrappedSampleKey


@dataclass(frozen=True, slots=True)
class _Keys:
    """new: what everything is wrapped for afterwards. all: those and the old ones, which open it as it is."""

    new: Sequence[KeyProvider]
    all: Sequence[KeyProvider]
    trusted: Sequence[TrustedSigner]


@dataclass(frozen=True, slots=True)
class _SampleKeys:
    """Sample keys with their new wraps; how many have it already; those that none of the KEKs opens."""

    changed: Sequence[tuple[WrappedSampleKey, WrappedSampleKey]]
    done: int
    shut: Sequence[WrappedSampleKey]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be changed, what is left alone, and what killed processes left, which is removed."""

    files: Sequence[Path]
    files_done: Sequence[Path]
    samples: _SampleKeys
    unfinished: Sequence[Path]


def rotate(
    settings: GatewaySettings,
    *,
    specs: Sequence[str],
    is_dry_run: bool,
    as_json: bool,
    console: Console,
) -> None:
    """Wrap every data key for exactly these KEKs; without any, for those of GATEWAY_KEKS.

    Raises OperatorError, and changes nothing, if a new KEK cannot be opened, a sealed file is opened by none of the
    old and new ones, or another rotation is at work.
    """
    protect_process()
    steps = Steps(console)
    with opened_store(settings) as store:
        if is_dry_run:
            keys = _open_keys(settings, specs, steps)
            plan = _plan(settings, keys, store, steps)
        else:
            keys, plan = _rotate(settings, specs, store, steps)
    _report(keys, plan, is_dry_run=is_dry_run, as_json=as_json, steps=steps)


def _rotate(
    settings: GatewaySettings, specs: Sequence[str], store: Engine, steps: Steps
) -> tuple[_Keys, _Plan]:
    event = operator_event(Action.KEYS_ROTATE)
    try:
        keys = _open_keys(settings, specs, steps)
    except GatewayError:
        # Without the KEKs there are no ids to record, but the attempt is.
        with recorded(store, settings, event):
            raise
    detail = format_detail(to=[kek.kek_id for kek in keys.new], known=[k.kek_id for k in keys.all])
    with (
        recorded(
            store, settings, replace(event, recorded_at=utc_now(), detail=detail)
        ) as recording,
        rotating_alone(settings.models_folder),
    ):
        plan = _plan(settings, keys, store, steps)
        _carry_out(settings, keys, plan, store, steps)
        recording.add(
            files=len(plan.files),
            files_left=len(plan.files_done),
            sample_keys=len(plan.samples.changed),
            sample_keys_left=plan.samples.done,
            sample_keys_shut=len(plan.samples.shut),
            unfinished=len(plan.unfinished),
        )
    return keys, plan


def _open_keys(settings: GatewaySettings, specs: Sequence[str], steps: Steps) -> _Keys:
    opener = KekOpener()
    configured = split_specs(settings.keks)
    new = open_keks(list(specs) or configured, opener=opener)
    every = {kek.kek_id: kek for kek in new}
    for spec in configured:
        try:
            kek = opener.open(parse_spec(spec))
        except KeyFileError as exc:
            # An old one that is lost is no reason to stop: whether a file needs it shows below.
            steps.say(f"left out: {exc.message}")
        else:
            every.setdefault(kek.kek_id, kek)
    return _Keys(new, list(every.values()), open_trusted_signers(settings))


def _plan(settings: GatewaySettings, keys: _Keys, store: Engine, steps: Steps) -> _Plan:
    paths = list_sealed_files(settings.models_folder)
    done: list[Path] = []
    faults: list[str] = []
    for path in steps.each("checking", paths, total=len(paths)):
        try:
            unverified = read_sealed_file(path, max_bytes=settings.max_model_bytes)
            if is_wrapped_for(unverified, keys.new, keks=keys.all, trusted_signers=keys.trusted):
                done.append(path)
        except GatewayError as exc:
            faults.append(f"{path} (reason: {exc.reason})")
    if faults:
        message = (
            "nothing was changed, for these files are opened by none of the KEKs: "
            f"{', '.join(faults)}; name the KEK that opens them in GATEWAY_KEKS beside the new one, or move them out "
            "of the folder"
        )
        raise OperatorError(Code.SEALED_MODEL_REFUSED, message, reason="no_usable_key")
    return _Plan(
        files=[path for path in paths if path not in done],
        files_done=done,
        samples=_plan_sample_keys(keys, store),
        unfinished=find_unfinished(settings.models_folder),
    )


def _carry_out(
    settings: GatewaySettings, keys: _Keys, plan: _Plan, store: Engine, steps: Steps
) -> None:
    # If the process dies between two files, those before are wrapped for the new KEKs and those after for the old
    # ones: all of them open while both are configured, and the next run does the rest. What it was writing then stays
    # as a file of its own, which opens with a KEK that may be on its way out.
    remove_unfinished(settings.models_folder)
    for path in steps.each("wrapping", plan.files, total=len(plan.files)):
        unverified = read_sealed_file(path, max_bytes=settings.max_model_bytes)
        rewrapped = rewrap(
            unverified,
            keks=keys.all,
            new_keks=keys.new,
            trusted_signers=keys.trusted,
            random=os.urandom,
        )
        replace_sealed_file(path, rewrapped)
    # One transaction: either every sample key has its new wrap or none has.
    with write_transaction(store) as connection:
        for old, new in plan.samples.changed:
            replace_sample_key(connection, old, new=new)


def _plan_sample_keys(keys: _Keys, store: Engine) -> _SampleKeys:
    # A row has room for one wrap: the first KEK's, which is also what wraps new ones.
    first = keys.new[0]
    with store.connect() as connection:
        records = list_sample_keys(connection)
    changed: list[tuple[WrappedSampleKey, WrappedSampleKey]] = []
    shut: list[WrappedSampleKey] = []
    for record in records:
        if record.kek_id == first.kek_id:
            continue
        try:
            new = rewrap_sample_key(record, keks=keys.all, new_kek=first, random=os.urandom)
        except SealError:
            # Its images are out of reach already; that is reported, and is no reason to stop.
            shut.append(record)
        else:
            changed.append((record, new))
    return _SampleKeys(changed, len(records) - len(changed) - len(shut), shut)


def _report(keys: _Keys, plan: _Plan, *, is_dry_run: bool, as_json: bool, steps: Steps) -> None:
    if as_json:
        print(json.dumps(_as_json(keys, plan, is_dry_run=is_dry_run)))
        return
    verb = "would be wrapped" if is_dry_run else "wrapped"
    ids = ", ".join(kek.kek_id for kek in keys.new)
    steps.say(
        f"{verb} for {ids}: {len(plan.files)} sealed files, {len(plan.samples.changed)} sample keys"
    )
    for path in plan.files:
        steps.say(f"  {path}")
    steps.say(
        f"left alone, as they were done: {len(plan.files_done)} sealed files, {plan.samples.done} sample keys"
    )
    for path in plan.unfinished:
        verb = "would be removed" if is_dry_run else "removed"
        steps.say(f"{verb}, as its writing was cut short: {path}")
    for record in plan.samples.shut:
        steps.say(
            f"left alone, as no KEK here opens it: sample key {record.key_id}, wrapped for {record.kek_id}"
        )


def _as_json(keys: _Keys, plan: _Plan, *, is_dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": is_dry_run,
        "keks": [kek.kek_id for kek in keys.new],
        "files": {
            "wrapped": [str(path) for path in plan.files],
            "left_alone": [str(path) for path in plan.files_done],
            "unfinished": [str(path) for path in plan.unfinished],
        },
        "sample_keys": {
            "wrapped": len(plan.samples.changed),
            "left_alone": plan.samples.done,
            "not_opened": [
                {"key_id": record.key_id, "kek_id": record.kek_id} for record in plan.samples.shut
            ],
        },
    }
