"""Changes of a workflow in API form: what a user, a page gone wrong, or another pack may send. Each by its number."""

import copy
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from small_workflows import FEWER_STEPS, NAMES, shipped

NUMBERS: list[Any] = [
    *(0, -1, 1, 2, 3, 5, 8, 15, 17, 33, 100, 1000, 16384, 1_000_000, 2**31, 2**32, 2**63, 2**64 - 1, 2**64, 10**400),
    *(-(10**400), 0.1, 0.5, 0.999, 1.0, 1.5, 23.976, 29.97, 60.0, 120.0, 1e-30, 5e-324, -1e-9, -0.0, 1e30, 1e308),
    *(float("nan"), float("inf"), -float("inf")),
]
TEXTS = [
    *("", " ", "x" * 100_000, "a\x1b[31mb\x07\r\nc", "\0", "é\u2028\u202e\ufeff", "\U0001f600" * 300, "(" * 5000),
    *("(a:1e400)", "(a:nan)", "%s%n{0}", "<script>", "\n" * 1000, "embedding:x", "#DENOISE", "None"),
]
PATHS = [
    *("../outside/x", "../../../../../../tmp/mova_fuzz_stray", "/tmp/mova_fuzz_stray", "@root@/outside/x", "x" * 300),
    *("a/" * 400 + "x", "..", ".", "", "/", "~", "C:\\x", "\\\\host\\x", "a\0b", "a\nb", "con", "x.", "x ", "-rf"),
    *("%date:yyyy%", "%width%", "a\x1b]0;b", "é\u202e", "small.mp4", "small.wav", "small.png", "golden.safetensors"),
    *("../input/small.png", "small.png [output]", "x [temp]", "@root@/base/input/small.mp4", "custom_nodes/../x"),
]
OTHERS: list[Any] = [None, True, False, "", "1", "nan", 1, 1.5, [], [1], [[]], {}, {"a": 1}, ["3"], ["nowhere", 0]]
# Of these types there are objects that are nearly right; the word is in their names.
NEARLY = {"IMAGE": "picture", "LATENT": "latent", "AUDIO": "sound", "CONDITIONING": "conditioning", "SIGMAS": "sigma"}
FILE_INPUTS = {"filename_prefix", "file", "lora_name", "vae_name", "high_noise", "low_noise", "image", "audio", "run"}


@dataclass
class Mutation:
    number: int
    name: str  # of the workflow
    told: list[str]  # what was changed
    workflow: dict[str, Any]
    rewired: bool  # whether the clip may be another than the numbers of the workflow say


class Mutator:
    """`definitions`: /object_info; `media`: odd files by the loader that reads them."""

    def __init__(self, seed: int, definitions: dict[str, Any], media: dict[str, list[str]], root: str) -> None:
        self.seed, self.definitions, self.media, self.root = seed, definitions, media, root
        self.objects = definitions["ProbeOdd"]["input"]["required"]["what"][0]
        if self.objects == "COMBO":
            self.objects = definitions["ProbeOdd"]["input"]["required"]["what"][1]["options"]

    def make(self, number: int) -> Mutation:
        """The mutation of this number; number 0 to 7 are the workflows as they are."""
        self.draw = random.Random(f"{self.seed}:{number}")
        name = NAMES[number % len(NAMES)]
        workflow = shipped(name, number, FEWER_STEPS)
        made = Mutation(number, name, [], workflow, False)
        if number < len(NAMES):
            return made
        if self.draw.random() < 0.35:
            self.add_a_node(made)
        for _ in range(self.draw.choice([1, 1, 1, 1, 2, 2, 3])):
            ways = [self.number] * 6 + [self.rewire] * 3 + [self.object] * 4 + [self.medium] * 3 + [self.path] * 2
            ways += [self.text, self.missing, self.other_type]
            self.draw.choice(ways)(made)
        return made

    def each_object(self) -> Iterator[Mutation]:
        """Every object of other kinds in every input of the pack's nodes, one at a time."""
        tried, numbers = set(), itertools.count()
        for name in NAMES:
            plain = shipped(name, 0, FEWER_STEPS)
            for node, slot in sorted(set(self.places(Mutation(0, name, [], plain, False)))):
                place = plain[node]["class_type"], slot
                if not place[0].startswith("MOVA") or place in tried:
                    continue
                tried.add(place)
                for what in self.objects:
                    made = Mutation(next(numbers), name, [], copy.deepcopy(plain), True)
                    self.put(made, node, slot, self.new(made, "ProbeOdd", what=what), what)
                    yield made

    def declared(self, kind: str) -> dict[str, tuple[Any, dict]]:
        """A node's inputs: name to type (or list of choices) and options."""
        inputs = self.definitions[kind]["input"]
        both = {**inputs.get("required", {}), **inputs.get("optional", {})}
        return {name: (how[0], how[1] if len(how) > 1 else {}) for name, how in both.items()}

    def places(self, made: Mutation, *kinds: str) -> list[tuple[str, str]]:
        """Inputs (node, name) of these types, or all; the pack's own nodes four times, for they are what is tried."""
        found = []
        for node, entry in made.workflow.items():
            for name, (kind, _) in self.declared(entry["class_type"]).items():
                if not kinds or kind in kinds or (isinstance(kind, list) and "COMBO" in kinds):
                    found += [(node, name)] * (4 if entry["class_type"].startswith("MOVA") else 1)
        return sorted(found)

    def put(self, made: Mutation, node: str, name: str, value: Any, how: str = "") -> None:
        made.workflow[node]["inputs"][name] = value
        shown = how or repr(value)
        made.told.append(f"{made.workflow[node]['class_type']}.{name} = {shown[:80]}")

    def new(self, made: Mutation, kind: str, **inputs: Any) -> list:
        node = f"new{len(made.workflow)}"
        made.workflow[node] = {"class_type": kind, "inputs": inputs}
        return [node, 0]

    def number(self, made: Mutation) -> None:
        """A number beside or beyond the limits: typed in, or over a link, which the host does not check."""
        node, name = self.draw.choice(self.places(made, "INT", "FLOAT"))
        value = self.draw.choice(NUMBERS)
        kind = self.declared(made.workflow[node]["class_type"])[name][0]
        how = self.draw.choice(["typed", "typed", "linked", "any"])
        if how == "typed":
            self.put(made, node, name, value)
            return
        if self.draw.random() < 0.5 and kind == "INT" and value == value and abs(value) < 1e300:
            value = int(value)
        primitive = self.new(made, "PrimitiveInt" if isinstance(value, int) else "PrimitiveFloat", value=value)
        link = self.new(made, "ProbeAny", value=primitive) if how == "any" else primitive
        self.put(made, node, name, link, f"{value!r} over a link{' of any type' * (how == 'any')}")

    def outputs(self, made: Mutation) -> list[list]:
        """All outputs in the workflow, as links."""
        counts = {node: len(self.definitions[one["class_type"]]["output"]) for node, one in made.workflow.items()}
        return [[node, i] for node, count in counts.items() for i in range(count)]

    def rewire(self, made: Mutation) -> None:
        """An input fed by another node's output, whatever it is."""
        node, name = self.draw.choice(self.places(made))
        link = self.draw.choice(self.outputs(made))
        told = f"output {link[1]} of {made.workflow[link[0]]['class_type']}"
        if self.draw.random() < 0.6:
            link, told = self.new(made, "ProbeAny", value=link), f"{told} as any type"
        self.put(made, node, name, link, told)
        made.rewired = True

    def object(self, made: Mutation) -> None:
        """An input fed with an object of another kind."""
        kinds = list(NEARLY) if self.draw.random() < 0.6 else []
        places = [place for place in self.places(made, *kinds) if self.is_ours(made, place[0])]
        node, name = self.draw.choice(places)
        word = NEARLY.get(self.declared(made.workflow[node]["class_type"])[name][0], "")
        near = [what for what in self.objects if word in what]
        what = self.draw.choice(near if self.draw.random() < 0.7 else self.objects)
        self.put(made, node, name, self.new(made, "ProbeOdd", what=what), what)
        made.rewired = True

    def is_ours(self, made: Mutation, node: str) -> bool:
        return made.workflow[node]["class_type"].startswith("MOVA")

    def medium(self, made: Mutation) -> None:
        """Another picture, video or sound; of a workflow that has none, a path."""
        loaders = [node for node, one in made.workflow.items() if one["class_type"] in self.media]
        if not loaders:
            return self.path(made)
        node = self.draw.choice(sorted(loaders))
        kind = made.workflow[node]["class_type"]
        name = {"LoadImage": "image", "LoadVideo": "file", "LoadAudio": "audio"}[kind]
        self.put(made, node, name, self.draw.choice(self.media[kind]))
        made.rewired = True

    def path(self, made: Mutation) -> None:
        places = [place for place in self.places(made) if place[1] in FILE_INPUTS]
        node, name = self.draw.choice([p for p in places if not isinstance(self.value(made, *p), list)])
        value = self.draw.choice(PATHS).replace("@root@", self.root)
        if self.draw.random() < 0.4:
            self.put(
                made, node, name, self.new(made, "ProbeAny", value=self.string(made, value)), f"{value!r} as a link"
            )
        else:
            self.put(made, node, name, value)

    def string(self, made: Mutation, value: str) -> list:
        return self.new(made, "PrimitiveString", value=value)

    def text(self, made: Mutation) -> None:
        node, name = self.draw.choice(self.places(made, "STRING", "COMBO"))
        value = self.draw.choice(TEXTS)
        if self.draw.random() < 0.4:
            self.put(
                made, node, name, self.new(made, "ProbeAny", value=self.string(made, value)), f"{value!r} as a link"
            )
        else:
            self.put(made, node, name, value)

    def missing(self, made: Mutation) -> None:
        node, name = self.draw.choice(self.places(made))
        made.workflow[node]["inputs"].pop(name, None)
        made.told.append(f"{made.workflow[node]['class_type']}.{name} is missing")
        made.rewired = True

    def other_type(self, made: Mutation) -> None:
        node, name = self.draw.choice(self.places(made))
        self.put(made, node, name, self.draw.choice(OTHERS))
        made.rewired = True

    def value(self, made: Mutation, node: str, name: str) -> Any:
        return made.workflow[node]["inputs"].get(name)

    def add_a_node(self, made: Mutation) -> None:
        """The pack's nodes that few of the workflows have, where they belong."""
        how = self.draw.choice(
            [self.with_options, self.with_resume, self.with_fit_video, self.with_a_run, self.with_all]
        )
        how(made)

    def of_type(self, made: Mutation, kind: str) -> list[str]:
        return [node for node, one in made.workflow.items() if one["class_type"] == kind]

    def with_options(self, made: Mutation) -> None:
        ours = self.of_type(made, "MOVAModelLoader")
        options = self.new(made, "MOVAModelOptions", model_high=[ours[0], 0], model_low=[ours[0], 1])
        for name, (kind, how) in self.declared("MOVAModelOptions").items():
            if kind not in ("MODEL",):
                choices = kind if isinstance(kind, list) else how.get("options", [how.get("default")])
                made.workflow[options[0]]["inputs"][name] = self.draw.choice(choices)
        for node, one in made.workflow.items():
            for name, link in one["inputs"].items():
                if isinstance(link, list) and link[0] == ours[0] and node != options[0]:
                    one["inputs"][name] = [options[0], link[1]]
        made.told.append("with MOVAModelOptions")

    def with_resume(self, made: Mutation) -> None:
        for node in self.of_type(made, "MOVAJointSampler"):
            made.workflow[node]["inputs"]["resume"] = True
        made.told.append("with resume")

    def with_fit_video(self, made: Mutation) -> None:
        """A stretch of a video as the first picture, and its numbers for all that asks for them."""
        video = self.new(made, "LoadVideo", file="small.mp4")
        values = {"start": 0.0, "length": 9, "width": 48, "height": 32, "fps": self.draw.choice([0.0, 24.0, 12.0])}
        fit = self.new(made, "MOVAFitVideo", video=video, **values)[0]
        for node in self.of_type(made, "MOVAConditioning"):
            links = {
                "start_image": [fit, 0],
                "length": [fit, 2],
                "fps": [fit, 3],
                "width": [fit, 4],
                "height": [fit, 5],
            }
            made.workflow[node]["inputs"] |= links
        for node in self.of_type(made, "MOVACombineVideo"):
            made.workflow[node]["inputs"] |= {"fps": [fit, 3]}
        made.told.append("with MOVAFitVideo")
        made.rewired = True

    def with_a_run(self, made: Mutation) -> None:
        run = self.new(made, "MOVALoadRun", run=self.draw.choice(["nothing.safetensors", "../x", ""]))
        for node in self.of_type(made, "MOVASeparateLatent"):
            made.workflow[node]["inputs"]["latent"] = run
        made.told.append("with MOVALoadRun")
        made.rewired = True

    def with_all(self, made: Mutation) -> None:
        """Every optional number of the pack's nodes, so that it may be changed."""
        for one in made.workflow.values():
            if one["class_type"].startswith("MOVA"):
                for name, (_, how) in self.declared(one["class_type"]).items():
                    if how.get("default") is not None:
                        one["inputs"].setdefault(name, how["default"])
