"""What comes over a link is checked as what is typed in: the host asks only for a link's type, and "any" fits all.

Around each node's execute: every input must be of its kind, and a number within the limits that its widget has. What a
node knows better (sizes of latents, the kind of a VAE) it says itself. What they say is put as the page needs it.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from numbers import Number, Real
from typing import Any

from torch import Tensor

from ..mova import MovaError
from ..mova.shorten import short
from .host.notice import kept
from .host.page import remedy_first, short_paths
from .tensors import PICTURES, check_tensors, plain_tensor


def has(*names: str) -> Callable[[Any], bool]:
    return lambda value: all(hasattr(value, name) for name in names)


def is_conditioning(value: Any) -> bool:
    """A list of [text features, entries]."""
    pairs = isinstance(value, list) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value)
    return pairs and all((text is None or hasattr(text, "shape")) and is_named(kept) for text, kept in value)


def is_named(entries: Any) -> bool:
    """Whether these are a conditioning's entries, by name."""
    return isinstance(entries, dict) and all(isinstance(name, str) for name in entries)


def is_latent(value: Any) -> bool:
    return isinstance(value, Mapping) and hasattr(value.get("samples"), "shape")


def is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


# By the host's name of a type: what is one, and what to call it. The nodes' own checks take None from a loader.
KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "MODEL": (has("model", "clone"), "a model"),
    "VAE": (has("decode", "encode"), "a VAE"),
    "CLIP": (has("tokenize"), "a text encoder"),
    "CONDITIONING": (is_conditioning, "a conditioning"),
    "LATENT": (is_latent, "a latent"),
    "AUDIO": (has("keys", "__getitem__"), "a sound"),
    "IMAGE": (lambda value: isinstance(value, Tensor), "an image"),
    "SIGMAS": (lambda value: isinstance(value, Tensor) and value.ndim == 1, "a list of sigmas"),
    "NOISE": (has("generate_noise"), "noise"),
    "SAMPLER": (has("sample", "max_denoise"), "a sampler"),
    "VIDEO": (has("get_components"), "a video"),
    "INT": (lambda value: is_number(value) and (value != value or value % 1 == 0), "a whole number"),
    "FLOAT": (is_number, "a number"),
    "STRING": (lambda value: isinstance(value, str), "a text"),
    "COMBO": (lambda value: isinstance(value, str), "a text"),
    "BOOLEAN": (lambda value: isinstance(value, Number), "true or false"),
}

VALUES = ("INT", "FLOAT", "STRING", "COMBO", "BOOLEAN")  # types that have a widget


def checked(node: type) -> type:
    """The node, whose execute is not reached by a value that does not fit its inputs."""
    execute = node.execute.__func__  # type: ignore[attr-defined]
    names = list(inspect.signature(execute).parameters)[1:]
    own = set(inspect.signature(node.validate_inputs).parameters)  # type: ignore[attr-defined]

    @functools.wraps(execute)
    def run(cls: Any, *args: Any, **named: Any) -> Any:
        given = {**dict(zip(names, args, strict=False)), **named}
        for declared in node.define_schema().inputs:  # type: ignore[attr-defined]
            value = given.get(declared.id)
            if value is not None:
                check_value(declared, value)
                if declared.id not in own:
                    check_choice(declared, value)
                given[declared.id] = plain(declared.get_io_type(), value)
            elif declared.id in given and (not declared.optional or declared.get_io_type() in VALUES):
                check_none(declared)  # what is left out of optional inputs does not come at all
        try:
            return kept(functools.partial(execute, cls, **given))
        except MovaError as error:
            error.args = (remedy_first(short_paths(str(error))),)
            raise

    node.execute = classmethod(run)  # type: ignore[attr-defined]
    return node


def check_value(declared: Any, value: Any) -> None:
    """Raise MovaError unless the value is of the input's kind, and not above its limit.

    Of what is too small, or a NaN among floats, the nodes speak themselves, with the nearest valid value; but not of
    numbers of hundreds of digits, with which their mathematics ends.
    """
    kind = declared.get_io_type()
    fits, called = KINDS.get(kind, (lambda _: True, ""))
    if not fits(value):
        raise MovaError(f"{declared.id} should be {called}, not {what(value)}; connect the output of such a node.")
    check_tensors(declared.id, kind, value)
    if kind == "INT" and value != value:
        raise MovaError(f"{declared.id} is nan; give a whole number.")
    high = getattr(declared, "max", None)
    numeric = kind in ("INT", "FLOAT") and high is not None
    if numeric and (value > high or (not isinstance(value, float) and value < -(2**1000))):  # which is no float
        raise MovaError(f"{declared.id} is {short(value)}; it must be from {declared.min} to {high}.")


def check_choice(declared: Any, value: Any) -> None:
    """Raise MovaError for a value that is not in an input's list, which the host asks only of what is typed in."""
    choices = declared.options if declared.get_io_type() == "COMBO" else None
    if choices is not None and value not in choices:
        few = len(choices) < 6 and all(len(choice) < 40 for choice in choices)
        advice = f"choose one of {', '.join(choices)}" if choices and few else "choose one of its list"
        raise MovaError(f"{declared.id} is {short(value)}, which is not there; {advice}.")


def check_none(declared: Any) -> None:
    """Raise MovaError for nothing where it is no loader's: what loaders lack, the nodes say themselves."""
    kind = declared.get_io_type()
    if kind not in ("MODEL", "VAE", "CLIP", "AUDIO"):
        called = KINDS[kind][1] if kind in KINDS else "a value"
        raise MovaError(f"{declared.id} should be {called}, and nothing came; connect the output of such a node.")


def plain(kind: str, value: Any) -> Any:
    """A number as the nodes expect it: others' mathematics gives 81.0 for 81, and numbers of NumPy's."""
    if kind == "INT" and value == value:
        return int(value)
    if kind == "FLOAT" and abs(value) < 2**1000:  # else out of every range, which is told as it came
        return float(value)
    if kind in PICTURES:
        return plain_tensor(value)
    return bool(value) if kind == "BOOLEAN" else value


def what(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, str | int | float | bool):
        return short(value)
    if isinstance(value, Tensor):
        return f"a tensor {[*value.shape]}"
    return f"a {type(value).__name__}"
