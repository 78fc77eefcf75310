"""Looking at kept samples: decrypting is an act that is recorded."""

import os
from dataclasses import replace
from pathlib import Path

from gateway.audit.details import format_detail
from gateway.audit.events import Action
from gateway.commands.opening import open_keks, opened_store, operator_event, recorded
from gateway.commands.process_memory import protect_process
from gateway.errors import Code, OperatorError
from gateway.sealing.sample_keys import open_sample_image, open_sample_key
from gateway.settings import GatewaySettings
from gateway.store.queries.sample_keys import find_sample_key
from gateway.store.queries.samples import find_sealed_image

_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def write_image(settings: GatewaySettings, request_id: str, out: Path) -> None:
    """Write the kept image of one request as it was received, mode 0600.

    Raises OperatorError if none was kept or out exists, SealError if it was changed.
    """
    protect_process()
    detail = format_detail(sample=request_id)
    event = replace(operator_event(Action.SAMPLES_VIEW, detail=detail), request_id=request_id)
    with opened_store(settings) as store, recorded(store, settings, event) as recording:
        with store.connect() as connection:
            sealed = find_sealed_image(connection, request_id)
            key = None if sealed is None else find_sample_key(connection, sealed.key_id)
        if sealed is None or key is None:
            message = f"no image of request {request_id} was kept: only a share is, see GATEWAY_SAMPLE_IMAGE_RATE"
            raise OperatorError(Code.SAMPLE_REFUSED, message)
        image = open_sample_image(
            sealed, request_id=request_id, key=open_sample_key(key, keks=open_keks(settings))
        )
        recording.used_keys([key.kek_id], "open-sample-key", key=key.key_id)
        recording.add(image=image)
        try:
            with os.fdopen(os.open(out, _CREATE_FLAGS, 0o600), "wb") as file:
                file.write(image)
        except OSError as exc:
            message = f"cannot write {out}: {exc.strerror}"
            raise OperatorError(Code.SETTINGS_INVALID, message) from exc
