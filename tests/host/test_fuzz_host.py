"""The fuzzer of the workflows (make fuzz-host): it runs, it is repeatable, and it knows a fault when it sees one."""

import copy
import json
import sys

import pytest
from slow import slow

pytest.importorskip("resource", reason="limits a process's memory as Unix does")
if sys.platform != "linux":
    pytest.skip("needs Linux: /proc counts a process's memory there", allow_module_level=True)

from fuzz import Fuzzer, counted, entry_of
from fuzz_judge import CLIP, FAULT, HOST, LONG, OTHER, SENTENCE, judge, judge_error
from fuzz_mutate import Mutation
from fuzz_watch import Answer
from small_workflows import NAMES

OURS = '  File "/base/custom_nodes/comfyui-mova/mova/sampling/schedule.py", line 1, in sigmas\n'
CORE = '  File "/comfy/nodes.py", line 1, in sample\n'


@pytest.fixture(scope="module")
def fuzzer(host_place, tmp_path_factory):
    fuzzer = Fuzzer(*host_place, tmp_path_factory.mktemp("fuzz") / "root", seed=1, seconds=120)
    yield fuzzer
    fuzzer.stop()


@slow("as make fuzz-host, with a few")
def test_the_workflows_as_they_are_make_clips_and_a_few_changed_ones_no_fault(fuzzer):
    tried = [fuzzer.try_one(number) for number in range(len(NAMES) + 7)]
    verdicts = [verdict for _, _, verdict in tried]
    assert [verdict.kind for verdict in verdicts[: len(NAMES)]] == [CLIP] * len(NAMES), verdicts
    assert FAULT not in [verdict.kind for verdict in verdicts], verdicts
    assert any(verdict.kind in (SENTENCE, HOST) for verdict in verdicts)
    assert f"{len(NAMES)} {CLIP}" in counted([entry_of(*one) for one in tried[: len(NAMES)]])


def test_a_number_makes_the_same_workflow_again_and_another_another(fuzzer):
    made = [json.dumps(fuzzer.mutator.make(number).workflow) for number in range(8, 200)]
    assert made == [json.dumps(fuzzer.mutator.make(number).workflow) for number in range(8, 200)]
    assert len(set(made)) == len(made)


def test_each_object_comes_into_each_input_once(fuzzer):
    made = [one.told[-1] for one in fuzzer.mutator.each_object()]
    assert len(set(made)) == len(made) and len(made) % len(fuzzer.mutator.objects) == 0
    for place in ("MOVAConditioning.start_image", "MOVAJointSampler.seed", "MOVACombineLatent.audio"):
        assert f"{place} = a sparse tensor" in made


def test_a_clip_that_is_not_what_was_asked_for_is_told(fuzzer):
    made, answer, verdict = fuzzer.try_one(NAMES.index("mova_2_text_to_video_with_sound"))
    assert verdict.kind == CLIP
    (combine,) = (one["inputs"] for one in made.workflow.values() if one["class_type"] == "MOVACombineVideo")
    (asked,) = (node for node, one in made.workflow.items() if one["class_type"] == "MOVAConditioning")
    latent = ("samples", "parts", 0, "shape", 2)
    waveform = ("entries", "waveform", "shape", 2)
    changes = {  # by what a link carried: something else than was made
        (tuple(combine["images"]), ("shape", 0)): (10, "9 frames in the clip of"),
        (tuple(combine["images"]), ("shape", 1)): (64, "(32, 48, 3) of"),
        (tuple(combine["images"]), ("finite",)): (True, ""),
        (tuple(combine["fps"]), ("value",)): ("25.0", "24.0 frames a second, not 25.0"),
        (tuple(combine["audio"]), ("kind",)): ("NoneType", "a sound from nowhere"),
        (tuple(combine["audio"]), waveform): (48000, "1.000 s of sound were made for 0.375 s"),
        (tuple(combine["audio"]), ("entries", "waveform", "finite")): (False, "output 0"),
        ((asked, 2), ("entries", *latent)): (4, "the latent is"),
    }
    for ((node, output), path), (value, told) in changes.items():
        changed = copy.deepcopy(answer)
        place = changed.outputs[f"seen {node} {output}"]["seen"][0]
        for step in path[:-1]:
            place = place[step]
        assert path[-1] in place or type(path[-1]) is int, (path, place)
        place[path[-1]] = value
        found = judge(changed, made, fuzzer.base / "output")
        assert found.kind == (FAULT if told else CLIP) and told in found.detail, (path, found)


def test_a_process_that_dies_is_told_and_another_one_started(fuzzer, monkeypatch):
    process = fuzzer.watched.server.process
    monkeypatch.setattr(fuzzer.watched, "follow", lambda *_: (process.kill(), process.wait()))
    _, _, verdict = fuzzer.try_one(0)
    assert (verdict.kind, verdict.what) == (FAULT, "died") and verdict.detail.startswith("SIGKILL")
    monkeypatch.undo()
    assert fuzzer.try_one(8 * 100)[2].what != "died" and fuzzer.watched.starts == 2


def test_a_file_elsewhere_is_seen(fuzzer, monkeypatch):
    stray = fuzzer.root / "outside/x"
    monkeypatch.setattr(fuzzer.watched, "follow", lambda *_: stray.write_text("x"))
    _, _, verdict = fuzzer.try_one(0)
    assert (verdict.kind, verdict.what, verdict.detail) == (FAULT, "a file elsewhere", str(stray))


@pytest.mark.parametrize(
    ("node", "kind", "text", "trace", "judged"),
    [
        ("MOVAScheduler", "mova.MovaError", "steps is 0; it must be 1 or more.", [OURS], SENTENCE),
        ("KSampler", "mova.MovaError", "It is not MOVA; choose another.", [CORE, OURS], SENTENCE),
        ("MOVAScheduler", "mova.MovaError", "steps is\n0.", [OURS], FAULT),
        ("MOVAScheduler", "mova.MovaError", "a\x1b[31mb is wrong; choose another.", [OURS], FAULT),
        ("MOVAScheduler", "TypeError", "'<' not supported", [OURS], FAULT),
        ("MOVAScheduler", "TypeError", "a core function in a node of ours", [OURS, CORE], FAULT),
        ("KSampler", "TypeError", "code of ours in another's node", [CORE, OURS], FAULT),
        ("KSampler", "TypeError", "'<' not supported", [CORE], OTHER),
    ],
)
def test_an_error_is_judged_by_its_kind_and_its_place(node, kind, text, trace, judged):
    error = {"node_type": node, "exception_type": kind, "exception_message": text + "\n", "traceback": trace}
    assert judge_error(error).kind == judged


def test_memory_and_time_are_judged_by_the_node_that_took_them(tmp_path):
    workflow = {"1": {"class_type": "MOVAFitVideo", "inputs": {}}, "2": {"class_type": "ImageScale", "inputs": {}}}
    made = Mutation(0, "text", [], workflow, False)

    def judged(**answer):
        found = judge(Answer(outputs={}, **answer), made, tmp_path)
        return found.kind, found.what

    assert judged(hung="1") == (FAULT, "no answer") and judged(hung="2")[0] == OTHER
    assert judged(stopped=True)[0] == LONG
    assert judged(grew=3 * 2**30, running="1") == (FAULT, "memory") and judged(grew=3 * 2**30, running="2")[0] != FAULT
