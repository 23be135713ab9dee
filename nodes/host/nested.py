"""Video and audio in one latent, as ComfyUI's nodes and other people's take it.

The host's NestedTensor holds them, but knows little of what nodes do with a latent. Ours does what has a meaning for
both parts (along the batch, number by number, over the channels); all else ends in a sentence, not in torch's words.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from comfy.nested_tensor import NestedTensor
from torch import Tensor

from ...mova import MovaError
from ...mova.shorten import short

VIDEO_CHANNELS, AUDIO_CHANNELS = 16, 128  # of the VAEs' latents
FILE_MARK = -16128.0  # the first number of a saved latent; then come the shapes of a video and its audio
PLAIN = "split it with MOVA Separate Latent, and join it again with MOVA Combine Latent."

# What torch makes of each part by itself. Over the channels (dimension 1): the norm of LatentInterpolate.
BY_NUMBER: tuple[Callable[..., Any], ...]
BY_NUMBER = (torch.nan_to_num, torch.zeros_like, torch.ones_like, torch.empty_like, torch.rand_like, torch.randn_like)
BY_NUMBER += (torch.abs, torch.clamp, torch.lerp, torch.add, torch.sub, torch.mul, torch.clone)
BY_NUMBER += (Tensor.add, Tensor.sub, Tensor.mul)  # a tensor and then a latent


def one_part(what: str) -> str:
    return f"This node takes latents of one part (it asks for {what}), and this one is audio and video; {PLAIN}"


def asks_for(name: str) -> AttributeError:
    """What to tell a node that asks for an attribute: hasattr, and getattr with a default, still work."""
    return AttributeError(one_part(name))


def along_batch(index: Any, shape: tuple[int, ...]) -> Any:
    """What an index of a latent of this shape takes of the batch. Raises MovaError if it cuts another axis, too."""
    first, *others = index if isinstance(index, tuple) else (index,)
    if others and others[-1] is Ellipsis:
        others.pop()
    whole = all(isinstance(i, slice) and i.indices(n) == (0, n, 1) for i, n in zip(others, shape[1:], strict=False))
    whole = whole and len(others) < len(shape) and getattr(first, "ndim", 0) < 2  # a mask of the picture has more
    if first is None or first is Ellipsis or not whole:
        raise MovaError(one_part("some of the frames, or of the picture"))
    try:
        taken = torch.arange(shape[0])[first]
    except Exception:  # torch has many for what it cannot find
        raise not_there(first, shape) from None
    if taken.ndim > 1:
        raise MovaError(one_part("a batch of more dimensions"))
    return first


def not_there(what: Any, shape: tuple[int, ...]) -> MovaError:
    return MovaError(f"There is no {short(what)} in a latent of {shape[0]} clip(s); they count from 0.")


def check_fit(one: Any, other: Any, into: bool = False) -> None:
    """Raise MovaError unless torch can calculate with these two parts, or put the other `into` the one."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or not one.ndim or not other.ndim:
        return
    try:
        shape = torch.broadcast_shapes(one.shape, other.shape)
    except RuntimeError:
        shape = None
    if shape is None or len(shape) > one.ndim or (into and shape != one.shape):
        raise MovaError(
            f"Latents of the sizes {[*one.shape]} and {[*other.shape]} do not go together; give both video and audio, "
            "of the same size, length and batch."
        )


class AudioVideoLatent(NestedTensor):
    """The host's two tensors in one: video [B, 16, T, H, W] and audio [B, 128, L]; also masks for them."""

    def _copy(self) -> "AudioVideoLatent":  # of which the host's methods make their results
        return AudioVideoLatent(self.tensors)

    def each(self, function: Callable[[Tensor], Tensor]) -> "AudioVideoLatent":
        return AudioVideoLatent([function(part) for part in self.tensors])

    def apply_operation(self, other: Any, operation: Callable[[Tensor, Any], Any]) -> "AudioVideoLatent":
        """The host's arithmetic: with another latent part by part, else with the same number."""
        pairs = [(part, parts_of(other, i)) for i, part in enumerate(self.tensors)]
        for pair in pairs:
            check_fit(*pair)
        return AudioVideoLatent([operation(*pair) for pair in pairs])

    def __radd__(self, other: Any) -> "AudioVideoLatent":
        return self + other

    def __rmul__(self, other: Any) -> "AudioVideoLatent":
        return self * other

    def __rsub__(self, other: Any) -> "AudioVideoLatent":
        return -self + other

    def __neg__(self) -> "AudioVideoLatent":
        return self.each(torch.neg)

    def __abs__(self) -> "AudioVideoLatent":
        return self.each(torch.abs)

    def __getitem__(self, index: Any) -> "AudioVideoLatent":
        batch = along_batch(index, self.shape)
        return self.each(lambda part: part[batch])

    def __setitem__(self, index: Any, value: Any) -> None:
        batch = along_batch(index, self.shape)
        values = [parts_of(value, i) for i in range(2)]
        for part, new in zip(self.tensors, values, strict=True):  # all of it before anything is written
            check_fit(part[batch], new, into=True)
        for part, new in zip(self.tensors, values, strict=True):
            part[batch] = new

    def __iter__(self) -> Iterator["AudioVideoLatent"]:
        return (self[i] for i in range(self.shape[0]))

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        """Nodes that ask for it pass over what is not torch's own Tensor, and would give back all of it uncut."""
        raise MovaError(one_part("len"))

    def size(self, dim: int | None = None) -> Any:
        """The video's."""
        return self.shape if dim is None else self.shape[dim]

    def clone(self, **kwargs: Any) -> "AudioVideoLatent":
        """In its own memory format: what is asked for is for pictures."""
        return self.each(torch.clone)

    def detach(self) -> "AudioVideoLatent":
        return self.each(torch.detach)

    def repeat(self, *sizes: Any) -> "AudioVideoLatent":
        """Along the batch; `sizes` are for the video, as .ndim is the video's."""
        times, *others = sizes[0] if isinstance(sizes[0], (tuple, list)) else sizes
        if any(n != 1 for n in others):
            raise MovaError(one_part("repeat"))
        return self.each(lambda part: part.repeat(times, *[1] * (part.ndim - 1)))

    def narrow(self, dim: int, start: int, length: int) -> "AudioVideoLatent":
        if dim != 0:
            raise MovaError(one_part("narrow"))
        start += self.shape[0] if start < 0 else 0
        if not 0 <= start <= start + length <= self.shape[0]:
            raise not_there(range(start, start + length), self.shape)
        return self.each(lambda part: part.narrow(0, start, length))

    def chunk(self, *args: Any, **kwargs: Any) -> Any:
        raise MovaError(one_part("chunk"))

    def contiguous(self) -> Tensor:
        """One tensor [B, 1, N] that holds both, for SaveLatent; from_file opens what LoadLatent gives."""
        video, audio = self.tensors
        shapes = torch.tensor([FILE_MARK, *video.shape[1:], *audio.shape[1:]], dtype=torch.float32, device=video.device)
        rows = [shapes.expand(len(video), -1), *(part.float().flatten(1) for part in self.tensors)]
        return torch.cat(rows, dim=1)[:, None]

    @classmethod
    def __torch_function__(cls, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """What torch's functions make of it: torch.cat, torch.flip and the like come here."""
        options = kwargs or {}
        if function is torch.narrow:
            return args[0].narrow(*args[1:], **options)
        dims = {"dim": options.get("dim", args[1] if len(args) > 1 else None)}
        by_batch = function in (torch.cat, torch.concat) and (dims["dim"] or 0) == 0
        over_channels = function is torch.linalg.vector_norm and options.get("dim") in (1, (1,), [1])
        if not (by_batch or over_channels or function in BY_NUMBER):
            raise MovaError(one_part(getattr(function, "__name__", str(function))))
        calls = [(parts_of(args, i), parts_of(options, i)) for i in range(2)]
        for (first, *others), named in (call for call in calls if call[0]):
            if by_batch:
                check_joined(first)
            for other in [] if by_batch else [*others, *named.values()]:
                check_fit(first, other)
        return AudioVideoLatent([function(*inputs, **named) for inputs, named in calls])

    def __getattr__(self, name: str) -> Any:
        raise asks_for(name)


def refused(name: str) -> Callable[..., Any]:
    def refuse(self: AudioVideoLatent, *args: Any) -> Any:
        raise MovaError(one_part(name))

    return refuse


# Not == and !=, which are for what keeps latents: there a latent is itself, as the host's is.
OPERATORS = "lt le gt ge pow rpow mod rmod floordiv rfloordiv divmod rdivmod rtruediv matmul rmatmul "
OPERATORS += "and rand or ror xor rxor invert"
for _name in OPERATORS.split():
    setattr(AudioVideoLatent, f"__{_name}__", refused(_name))


def parts_of(value: Any, i: int) -> Any:
    """What a function is given, with the video (0) or the audio (1) in place of each latent. Raises MovaError."""
    if isinstance(value, NestedTensor):
        if len(value.tensors) != 2:
            raise MovaError(
                f"A latent of {len(value.tensors)} part(s) does not go with one of audio and video; {PLAIN}"
            )
        return value.tensors[i]
    if isinstance(value, Tensor):
        if value.numel() != 1:  # of one part, or of a shape that means one thing for it and another for the other
            raise MovaError(
                f"A tensor of the size {[*value.shape]} does not go with a latent of audio and video; {PLAIN}"
            )
        return value.reshape(())
    if isinstance(value, (tuple, list)):
        return type(value)(parts_of(item, i) for item in value)
    if isinstance(value, dict):
        return {name: parts_of(item, i) for name, item in value.items()}
    return value


def check_joined(parts: Any) -> None:
    """Raise MovaError unless these can follow each other in a batch."""
    if isinstance(parts, (tuple, list)):
        for other in parts[1:]:
            if other.shape[1:] != parts[0].shape[1:]:
                raise MovaError(
                    f"Latents of the sizes {[*parts[0].shape]} and {[*other.shape]} cannot be one batch; give both "
                    "video and audio, of the same size and length."
                )


def is_ours(parts: Any) -> bool:
    """Whether these are the two parts of a MOVA latent: other models' audio latents have four dimensions."""
    shapes = [getattr(part, "shape", ()) for part in parts]
    kinds = [(len(shape), *shape[1:2]) for shape in shapes]
    return kinds == [(5, VIDEO_CHANNELS), (3, AUDIO_CHANNELS)]


def from_file(samples: Any) -> Any:
    """The two parts of a latent that SaveLatent has written and LoadLatent read; any other latent as it is."""
    plain = isinstance(samples, Tensor) and samples.ndim == 3 and samples.shape[1] == 1 and samples.shape[2] > 7
    if not plain or samples[0, 0, 0] != FILE_MARK or not samples[0, 0, 1:7].isfinite().all():
        return samples
    sizes = [int(n) for n in samples[0, 0, 1:7]]
    shapes = sizes[:4], sizes[4:]
    lengths = [math.prod(shape) for shape in shapes]
    if sum(lengths) != samples.shape[2] - 7 or min(sizes) < 1:
        return samples
    parts = samples[:, 0, 7:].split(lengths, dim=1)
    return AudioVideoLatent([part.reshape(len(part), *shape) for part, shape in zip(parts, shapes, strict=True)])


def adopt() -> None:
    """Let a MOVA latent be of our class wherever the host makes one: what its samplers give, and its other nodes.

    The host has no other place for it: its samplers put the parts together after the model's last word.
    """
    made = NestedTensor.__init__
    if getattr(made, "adopts_mova", False):
        return

    def init(self: NestedTensor, tensors: Any) -> None:
        made(self, tensors)
        if type(self) is NestedTensor and is_ours(self.tensors):
            self.__class__ = AudioVideoLatent

    init.adopts_mova = True  # type: ignore[attr-defined]
    NestedTensor.__init__ = init
