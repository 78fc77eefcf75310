"""What a reference is bound to: the very weights that measured it, and how they are run. Pure."""

from gateway.store.records import ModelVersion
from monitor.records import Reference


def preprocessing_of(model: ModelVersion) -> str:
    """In words that are compared: whatever of it changes moves features and confidences without any drift."""
    height, width = model.input_size
    return (
        f"weights {model.plaintext_sha256} input {height}x{width} "
        f"precision {model.precision} engine {model.engine}"
    )


def why_unfit(reference: Reference, model: ModelVersion) -> str | None:
    """Why samples of a model version must not be compared with a reference; None if they may.

    A reference from before this was stored, or of a version that was not registered yet, tells nothing to compare.
    """
    made_by, wanted = reference.summary.preprocessing, preprocessing_of(model)
    if (reference.model_name, reference.model_version) != (model.name, model.version):
        return (
            f"reference {reference.id} was made for {reference.model_name} "
            f"{reference.model_version}, not for {model.name} {model.version}"
        )
    if made_by and made_by != wanted:
        return (
            f"reference {reference.id} was made by another model or preprocessing ({made_by}, "
            f"now {wanted}): make a new one with `monitor reference`"
        )
    return None
