"""What comes over a link that the host lets pass: values beyond a widget's limits, and objects of other kinds."""

import pytest
from refused import check, number, refusals, shown, text

from graphs import ref  # isort: skip

CASES, refused = refusals()


def any_of(bench, what):
    """An output of a type that fits every input, with `what` in it."""
    return ref(bench.add("ProbeAnything", what=what))


def conditioning(bench, **changed):
    given = {"width": 48, "height": 32, "length": 9, "fps": 24.0, "batch_size": 1, **changed}
    vae = given.pop("vae", None) or ref(bench.add("ProbeWanVAE"))
    texts = {name: given.pop(name, None) or text(bench) for name in ("positive", "negative")}
    shown(bench, ref(bench.add("MOVAConditioning", vae=vae, **texts, **given), 2))


@refused("batch_size is 1000000; it must be from 1 to 64.", 1_000_000, builds_models=True)
@refused("batch_size is 0; it must be 1 or more.", 0, builds_models=True)
def a_number_of_clips(bench, value):
    conditioning(bench, batch_size=number(bench, value))


@refused("length is 16389; it must be from 1 to 16385.", ("length", 16389), builds_models=True)
@refused("width is 16400; it must be from 16 to 16384.", ("width", 16400), builds_models=True)
@refused("fps is 121.0; it must be from 1.0 to 120.0.", ("fps", 121.0), builds_models=True)
def a_size_beyond_the_widget_s(bench, name, value):
    conditioning(bench, **{name: number(bench, value)})


@refused("steps is 1000000000; it must be from 1 to 1000.", 10**9)
def steps_of_the_scheduler(bench, steps):
    shown(bench, ref(bench.add("MOVAScheduler", steps=number(bench, steps), shift=5.0, denoise=1.0)))


KINDS = {"a text": "'text'", "a number": "7", "a list": "a list", "a dict": "a dict", "a tensor": "a tensor [2, 3]"}
INPUTS = {
    "positive": "a conditioning",
    "vae": "a VAE",
    "start_image": "an image",
    "width": "a whole number",
    "text_only_frame": "a text",
}
FITS = {("text_only_frame", "a text"), ("width", "a number"), ("start_image", "a tensor")}
for slot, called in INPUTS.items():
    for what, word in KINDS.items():
        if (slot, what) not in FITS:

            @refused(f"{slot} should be {called}, not {word}; connect the output of such a node.", (slot, what),
                     builds_models=True)  # fmt: skip
            def an_object_of_another_kind(bench, slot, what):
                conditioning(bench, **{slot: any_of(bench, what)})


@refused("bridge_cfg should be a number, and nothing came; connect the output of such a node.", "bridge_cfg",
         builds_models=True)  # fmt: skip
@refused("resume should be true or false, and nothing came", "resume", builds_models=True)
def nothing_for_an_optional_value(bench, slot):
    bench.save([bench.joint(bench.model("mova_high"), bench.given, **{slot: odd(bench, "none")}), 0])


@refused("a2v_scale is -1000", "a2v_scale", builds_models=True)
@refused("audio_cfg is -1000", "audio_cfg", builds_models=True)
@refused("steps is -1000", "steps", builds_models=True)
def a_number_of_hundreds_of_digits_below_zero(bench, slot):
    number = odd(bench, "minus a number of 400 digits")
    bench.save([bench.joint(bench.model("mova_high"), bench.given, **{slot: number}), 0])


def odd(bench, what):
    """One of the objects that the fuzzer puts into links."""
    return ref(bench.add("ProbeOdd", what=what))


for what, fault in {
    "a sparse tensor": "is a sparse tensor",
    "complex numbers": "is of complex numbers",
    "a tensor without memory": "has no numbers in memory",
}.items():

    @refused(f"The picture in start_image {fault}; connect another.", what, builds_models=True)
    def a_picture_that_nothing_can_be_reckoned_with(bench, what):
        conditioning(bench, start_image=odd(bench, what))


@refused("The text in positive is in float8_e4m3fn, in which nothing can be reckoned; connect another.", "of fp8",
         builds_models=True)  # fmt: skip
@refused("positive should be a conditioning, not a list; connect the output of such a node.", "with odd entries",
         builds_models=True)  # fmt: skip
def an_odd_conditioning(bench, what):
    conditioning(bench, positive=odd(bench, f"a conditioning {what}"))


@refused("There are no text features in the conditioning; take one of a text encoder.", "no conditioning")
def a_conditioning_without_text(bench, what):
    bench.add("MOVASaveConditioning", conditioning=odd(bench, what), filename_prefix="x")


@refused("The noise mask in video is a str, not a tensor; connect another.", ("video", "a latent with a mask of text"))
@refused("The batch_index in video is a str, not a list of numbers", ("video", "a latent with an odd batch_index"))
@refused("The latent in video is in float8_e4m3fn", ("video", "a latent of fp8"))
@refused("The latent in audio has one part alone, which is its video; connect an audio latent.",
         ("audio", "a latent of one"))  # fmt: skip
def an_odd_latent(bench, slot, what):
    parts = {"video": odd(bench, "a latent of video"), "audio": odd(bench, "a latent of sound")}
    shown(bench, ref(bench.add("MOVACombineLatent", **{**parts, slot: odd(bench, what)})))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_is_refused_in_one_sentence_and_nothing_is_loaded(server, files, case):
    check(server, case)
