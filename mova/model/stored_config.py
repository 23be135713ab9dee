"""What a single file says of itself: the JSON object under `config` in its metadata.

Its parts stand under "transformer", where ComfyUI's core loader looks for them, or at its top, as other tools write it.
"""

from collections.abc import Mapping
from typing import Any

from .. import strict_json
from ..errors import MovaError
from ..shorten import short

EXPERT_NAMES = {"high_noise": "high-noise", "low_noise": "low-noise"}  # as they are called in sentences


def stored_config(metadata: Mapping[str, str], where: object = "The file") -> dict[str, Any]:
    """The parts by their names, and perhaps "expert"; empty if the metadata has no `config`.

    `where` begins the message. Raises MovaError if it is no JSON object, or names an expert that there is not.
    """
    if "config" not in metadata:
        return {}
    try:
        values = strict_json.parse(metadata["config"])
    except ValueError as error:
        raise MovaError(
            f"{where} has a configuration in its metadata that is not valid JSON ({error}); convert it again."
        ) from error
    inner = values.get("transformer", {}) if isinstance(values, dict) else None
    if not isinstance(inner, dict):
        raise MovaError(f"{where} has a configuration in its metadata that is not a JSON object; convert it again.")
    found = {**values, **inner}
    if "expert" in found and found["expert"] not in list(EXPERT_NAMES):
        named = short(found["expert"])
        raise MovaError(f"{where} names an unknown expert in its metadata ({named}); convert it again.")
    return found


def stored_expert(metadata: Mapping[str, str], where: object = "The file") -> str | None:
    """ "high_noise" or "low_noise"; None if the file does not say. Raises MovaError as stored_config does."""
    return stored_config(metadata, where).get("expert")
