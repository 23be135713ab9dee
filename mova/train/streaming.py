"""Frozen matrices on their way from RAM: those of the layer at work are there, and the next layer's are coming."""

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor, nn

from ..model.joint import JointModel, Layer
from .frozen import Frozen

Brought = list[dict[str, Tensor]]


def frozen_of_layers(model: JointModel) -> list[list[Frozen]]:
    """For each layer of the joint model, its blocks' and its bridge's Frozen."""
    found: list[list[Frozen]] = []
    bridge = model.dual_tower_bridge
    for index, block in enumerate(model.blocks):
        parts: list[nn.Module] = [block]
        if index < len(model.audio_dit.blocks):
            parts.append(model.audio_dit.blocks[index])
        for side in (bridge.audio_to_video_conditioners, bridge.video_to_audio_conditioners):
            if index in side:
                parts.append(side[index])
        found.append([module for part in parts for module in part.modules() if isinstance(module, Frozen)])
    return found


class Asked:
    """A layer whose matrices are divided among processes, on its way: as a Future of what is brought."""

    def __init__(self, layers: list[Frozen], device: torch.device) -> None:
        self.layers, self.device = layers, device
        self.asked = [layer.shard.ask() for layer in layers if layer.shard is not None]

    def result(self) -> Brought:
        """Wait for the others' parts; they stay until each Shard is dropped."""
        asked, made = iter(self.asked), []
        for layer in self.layers:
            parts = {name: part.to(self.device) for name, part in layer.stored.items()}
            made.append(parts if layer.shard is None else {"": layer.shard.whole(next(asked)), **parts})
        return made

    def cancel(self) -> None:
        """What all processes have begun must come to its end in all of them."""
        self.result()


class Ring:
    """Two layers' matrices on the device: the one at work and the next, forward as backward.

    Called in the place of the model's run_layer, it makes a layer's matrices be there. They stay until another layer is
    run, so also for the gradients of a layer that is checkpointed as a whole.
    """

    def __init__(self, model: JointModel, device: torch.device, resident: int = 0) -> None:
        """resident: so many layers, from the first, are kept on the device for good."""
        self.layers, self.device, self.resident = frozen_of_layers(model), device, resident
        self.coming: dict[int, Future[Brought] | Asked] = {}
        self.here: set[int] = set()
        self.last = -1
        self.worker = ThreadPoolExecutor(1, "bring-weights")
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, index: int, layer: Layer, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        self.at(index)
        return layer(video, audio)

    def at(self, index: int) -> None:
        """Have a layer's matrices on the device, and start to bring those that will be needed next."""
        following = self.following(index)
        for other in (self.here | set(self.coming)) - {index, following}:
            if other >= self.resident:
                self.drop(other)
        self.take(index)
        if following not in self.here and following not in self.coming:
            self.coming[following] = self.begin(following)
        self.last = index

    def following(self, index: int) -> int:
        """The layer behind this one in the direction of travel, which turns around at the last."""
        forward = index > self.last or index == 0
        near = index + 1 if forward else index - 1
        return max(0, index - 1) if near >= len(self.layers) else near

    def begin(self, index: int) -> Future[Brought] | Asked:
        """Start to bring a layer. Processes that divide it must do so in the same order: not in a thread."""
        if any(layer.shard is not None for layer in self.layers[index]):
            return Asked(self.layers[index], self.device)
        return self.worker.submit(self.bring, index)

    def bring(self, index: int) -> Brought:
        """Copies of a layer's matrices on the device; made in a thread, on a stream of their own."""
        with torch.cuda.stream(self.stream):
            made = [
                {name: part.to(self.device, non_blocking=True) for name, part in layer.stored.items()}
                for layer in self.layers[index]
            ]
            if self.stream is not None:
                self.stream.synchronize()
        return made

    def take(self, index: int) -> None:
        """Wait until a layer's matrices are there."""
        if index in self.here:
            return
        coming = self.coming.pop(index, None)
        divided = any(layer.shard is not None for layer in self.layers[index])
        made = coming.result() if coming is not None else self.begin(index).result() if divided else self.bring(index)
        for layer, parts in zip(self.layers[index], made, strict=True):
            for part in parts.values():
                if part.is_cuda:  # so that its memory is not given away while work on it is still waiting
                    part.record_stream(torch.cuda.current_stream(self.device))
            layer.brought = parts
        self.here.add(index)

    def drop(self, index: int) -> None:
        """Free a layer's matrices, or what is under way of them."""
        coming = self.coming.pop(index, None)
        if coming is not None:
            coming.cancel()
        for layer in self.layers[index]:
            layer.brought = {}
            if layer.shard is not None:
                layer.shard.drop()
        self.here.discard(index)

    def clear(self) -> None:
        """Leave nothing on the device, for another expert to come."""
        for index in list(self.here | set(self.coming)):
            self.drop(index)
        self.last = -1

    def close(self) -> None:
        """The run has ended: what is called afterwards would find no thread to bring layers."""
        self.clear()
        self.worker.shutdown()
