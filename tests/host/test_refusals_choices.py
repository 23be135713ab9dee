"""What is in no list, no number or nothing at all, where the host does not ask: over a link, and in validation."""

import pytest
from refused import check, refusals, shown

from graphs import ref  # isort: skip

CASES, refused = refusals()
LOADER = {"high_noise": "mova_high.safetensors", "low_noise": "none", "weight_dtype": "default"}


def linked(bench, text):
    """A text over a link of any type."""
    return ref(bench.add("ProbeAny", value=ref(bench.add("PrimitiveString", value=text))))


@refused(
    "high_noise is '../x.safetensors', which is not there; choose one of its list.", ("high_noise", "../x.safetensors")
)
@refused("low_noise is 'C:\\\\x', which is not there; choose one of its list.", ("low_noise", "C:\\x"))
@refused("weight_dtype is 'fp4', which is not there; choose one of ", ("weight_dtype", "fp4"))
def a_name_that_the_loader_does_not_have(bench, slot, name):
    shown(bench, ref(bench.add("MOVAModelLoader", **{**LOADER, slot: linked(bench, name)})))


@refused("vae_name is '../x', which is not there; choose one of ")
def a_name_that_the_loader_of_the_audio_vae_does_not_have(bench):
    shown(bench, ref(bench.add("MOVAAudioVAELoader", vae_name=linked(bench, "../x"))))


@refused("text_only_frame is 'a\\x1b[31mb', which is not there; choose one of white, none.", builds_models=True)
def a_name_that_commands_the_terminal(bench):
    shown(bench, ref(bench.conditioning(text_only_frame=linked(bench, "a\x1b[31mb")), 2))


@refused("positive should be a conditioning, and nothing came;", "positive", builds_models=True)
@refused("negative should be a conditioning, and nothing came;", "negative", builds_models=True)
def nothing_for_the_guider(bench, slot):
    given = {"positive": ref(bench.given), "negative": ref(bench.given, 1)}
    given[slot] = ref(bench.add("ProbeOdd", what="none"))
    guider = bench.add("MOVAGuider", model=bench.plain_model, cfg=5.0, **given)
    shown(bench, ref(guider))


@refused("seed is nan; give a whole number.", "nan", builds_models=True)
@refused("seed is -1; it must be from 0 to 18446744073709551615.", "minus one", builds_models=True)
@refused("seed is -1000", "minus a number of 400 digits", builds_models=True)
def a_seed_that_is_none(bench, what):
    seed = ref(bench.add("ProbeOdd", what=what))
    bench.save(ref(bench.joint(bench.plain_model, bench.given, seed=seed)))


@refused("batch_size is nan; give a whole number.", "nan", builds_models=True)
@refused("batch_size is -1000", "minus a number of 400 digits", builds_models=True)
@refused("batch_size should be a whole number, not inf;", "infinity", builds_models=True)
def a_number_of_clips_that_is_none(bench, what):
    shown(bench, ref(bench.conditioning(batch_size=ref(bench.add("ProbeOdd", what=what))), 2))


@refused("The sound in audio has no sample_rate; load another.", "a sound without a rate")
@refused("The sound in audio has no waveform; load another.", "a sound without a waveform")
@refused("The sound in audio has the shape [], not [batch, channels, samples]; load another.", "a sound of None")
@refused(
    "The sound in audio has a sample rate of '48000', not from 11 to 100000000; load another.",
    "a sound of a rate of text",
)
@refused("The sound in audio has a sample rate of 1000", "a sound of a huge rate")
@refused("audio should be a sound, not 'a text'; connect the output of such a node.", "a text")
def what_is_no_sound(bench, what):
    audio = ref(bench.add("ProbeOdd", what=what))
    frames = ref(bench.add("ProbeOdd", what="a picture"))
    shown(bench, ref(bench.add("MOVACombineVideo", images=frames, audio=audio, fps=24.0)))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_is_refused_in_one_sentence_and_nothing_is_loaded(server, files, case):
    check(server, case)


@pytest.mark.parametrize(
    ("name", "value"),
    [("fps", [1]), ("fps", 10**400), ("fps", "x"), ("width", -(10**400)), ("height", float("-inf")), ("length", ["3"])],
)
def test_what_is_no_number_fails_no_check_before_the_run(server, files, name, value):
    """The host refuses it, and asks validate_inputs all the same."""
    from bench import Bench

    bench = Bench(server)
    shown(bench, ref(bench.conditioning(**{name: value}), 2))
    status, body = server.post("/prompt", {"prompt": bench.nodes})
    types = [error["type"] for node in body["node_errors"].values() for error in node["errors"]]
    assert status == 400 and types and not any("exception" in kind for kind in types), body
