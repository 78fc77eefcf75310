"""`gateway audit pseudonym`: what a name is called in the ledger; whoever asks is on record."""

from dataclasses import replace

from gateway.audit.details import format_detail
from gateway.audit.events import Action, Outcome
from gateway.audit.pseudonyms import configured_pseudonyms
from gateway.commands.opening import opened_store, operator_event, record_once
from gateway.errors import Code, SettingsError
from gateway.settings import GatewaySettings


def look_up(settings: GatewaySettings, field: str, value: str) -> None:
    """Print the pseudonym of one value of a field, once the looking is recorded.

    Raises SettingsError if that field has none, KeyFileError for the key, AuditUnavailableError.
    """
    pseudonyms = configured_pseudonyms(settings)
    if pseudonyms is None:
        message = "no field is a pseudonym here: GATEWAY_AUDIT_PSEUDONYM_KEY_FILE names no key"
        raise SettingsError(Code.SETTINGS_INVALID, message)
    if field not in pseudonyms.fields:
        message = (
            f"{field} stands in the ledger as it is: GATEWAY_AUDIT_PSEUDONYM_FIELDS names "
            f"{', '.join(pseudonyms.fields)}"
        )
        raise SettingsError(Code.SETTINGS_INVALID, message)
    # The name itself does not stay: it becomes its pseudonym on the way into the ledger.
    detail = format_detail(lookup="pseudonym", **{field: value})
    event = replace(operator_event(Action.AUDIT_READ, detail=detail), outcome=Outcome.ANSWERED)
    with opened_store(settings) as store:
        record_once(store, settings, event)
    print(pseudonyms.of(field, value))
