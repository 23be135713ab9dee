"""A language model in a folder: writes with it, on the command line and in front of a clip; what is refused of it."""

import gc
import json
import shutil
import weakref

import pytest
import torch
from sentences import refusal
from test_command_line import SIZE
from writers import TEXT, write_writer

from mova import MovaError
from mova.__main__ import main
from mova.clip.reading import read_clip_info
from mova.enhance import Request
from mova.enhance import local as local_module
from mova.enhance.local import Local
from mova.model import text as text_encoder

TYPED = 'a fox in the snow says "hello there, friend"'
MADE = TEXT.replace("Hello there", "hello there")


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    return write_writer(tmp_path_factory.mktemp("writers") / "small")


@pytest.fixture
def copy(writer, tmp_path):
    return shutil.copytree(writer, tmp_path / "copy")


def generated(checkpoint, out, *more):
    return ["generate", "--checkpoint", str(checkpoint), "--prompt", TYPED, "--out", str(out), *SIZE, *more]


def test_the_model_writes_and_the_same_seed_the_same(writer):
    texts = [Local(writer, seed=seed, dtype=torch.float32)(Request("say", "it")) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] == TEXT


def test_the_random_numbers_of_a_run_are_left_as_they_were(writer):
    before = torch.random.get_rng_state()
    Local(writer, dtype=torch.float32)(Request("say", "it"))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_enhance_prints_the_prompt_alone(writer, capsys):
    assert main(["enhance", TYPED, "--enhance", str(writer), "--dtype", "fp32"]) == 0
    assert capsys.readouterr().out == f"{MADE}\n"


def test_what_broke_a_rule_is_told_apart_from_the_prompt(writer, capsys):
    assert main(["enhance", 'he says "No."', "--enhance", str(writer), "--dtype", "fp32"]) == 0
    told = capsys.readouterr()
    assert told.out == 'he says "No."\n' and "The prompt is yours, unchanged" in told.err


def test_a_model_without_sight_is_told_of(writer, photograph, capsys):
    assert main(["enhance", TYPED, "--enhance", str(writer), "--dtype", "fp32", "--image", str(photograph)]) == 0
    told = capsys.readouterr()
    assert told.out == f"{MADE}\n" and "takes no pictures" in told.err


def test_a_clip_holds_both_prompts_and_info_tells_them(writer, tiny_checkpoint, tmp_path, capsys, monkeypatch):
    """The language model is gone when the text encoder is loaded."""
    loaded, alive = [], []
    load = local_module.load
    encoder = text_encoder.load_encoder

    def noted(*given):
        reader, model = load(*given)
        loaded.append(weakref.ref(model))
        return reader, model

    def checked(*given):
        gc.collect()
        alive.extend(reference() is not None for reference in loaded)
        return encoder(*given)

    monkeypatch.setattr(local_module, "load", noted)
    monkeypatch.setattr(text_encoder, "load_encoder", checked)
    out = tmp_path / "clip.mp4"
    assert main(generated(tiny_checkpoint, out, "--enhance", str(writer))) == 0
    assert alive == [False]
    settings = read_clip_info(out).settings
    assert (settings["prompt"], settings["typed_prompt"]) == (MADE, TYPED)
    capsys.readouterr()
    assert main(["info", str(out)]) == 0
    told = capsys.readouterr().out
    assert f"prompt: {MADE}" in told and f"typed_prompt: {TYPED}" in told


def test_without_a_language_model_a_clip_has_one_prompt(tiny_checkpoint, tmp_path):
    assert main(generated(tiny_checkpoint, tmp_path / "clip.mp4")) == 0
    settings = read_clip_info(tmp_path / "clip.mp4").settings
    assert settings["prompt"] == TYPED and "typed_prompt" not in settings


def test_a_run_that_goes_on_keeps_the_prompt_it_began_with(
    writer, copy, tiny_checkpoint, tmp_path, capsys, monkeypatch
):
    from mova.clip import pipeline

    out = tmp_path / "clip.mp4"

    def stop(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "decode_video", stop)
        assert main(generated(tiny_checkpoint, out, "--enhance", str(writer))) == 130
    shutil.rmtree(copy)  # it is not asked again
    assert main(generated(tiny_checkpoint, out, "--enhance", str(copy), "--resume")) == 0
    assert read_clip_info(out).settings["prompt"] == MADE


def change(folder, name, **values):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_code_in_the_folder_is_refused_and_not_run(copy, tmp_path):
    mark = tmp_path / "ran"
    (copy / "own.py").write_text(f"open({str(mark)!r}, 'w')\nclass Own: pass\n")
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        before = (copy / name).read_text()
        change(copy, name, auto_map={"AutoModelForCausalLM": "own.Own", "AutoTokenizer": ["own.Own", None]})
        assert f"{name} sets auto_map" in refusal(Local, copy)
        (copy / name).write_text(before)
    change(copy, "config.json", text_config={"auto_map": {"AutoConfig": "own.Own"}})
    assert "sets auto_map" in refusal(Local, copy)
    assert not mark.exists()


def test_pickles_are_refused(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "has only pickles (pytorch_model.bin)" in refusal(Local, copy).replace("'", "")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.json", None, "has no config.json; name a language model's folder"),
        ("config.json", "{", "config.json is not valid JSON"),
        ("config.json", '{"model_type": "nonsense"}', "does not load as a language model"),
        ("model.safetensors", "x" * 100, "model.safetensors"),
        ("tokenizer.json", "{}", "does not load as a language model"),
    ],
)
def test_a_folder_that_is_damaged_is_refused_in_one_sentence(copy, name, content, told):
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_text(content)
    assert told in refusal(Local, copy)


def test_a_folder_that_is_not_there_is_refused_before_a_checkpoint_is_read(tmp_path, capsys):
    assert main(["enhance", TYPED, "--enhance", str(tmp_path / "gone")]) == 1
    told = capsys.readouterr().err
    assert "gone is not a folder" in told and "holds a language model" in told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "There is no language model; name a folder with --enhance or an address with --enhance-url."),
        (["--enhance", "x", "--enhance-url", "http://x"], "Both --enhance and --enhance-url are given"),
        (["--enhance", "x", "--enhance-model", "y"], "give --enhance-url with it"),
        (["--enhance", "x", "--enhance-temperature", "9"], "The temperature is 9.0; it must be from 0 to 5"),
        (["--enhance", "x", "--enhance-seed", "-1"], "The seed of the wording is -1"),
        (["--enhance", "x", "--enhance-length", "0"], "The length of an answer is 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(given, told, capsys):
    assert main(["enhance", TYPED, *given]) == 1
    assert told in capsys.readouterr().err


def test_a_template_without_a_system_s_turn_is_given_one_text(copy):
    (copy / "chat_template.jinja").write_text(
        "{% for turn in messages %}{% if turn.role == 'system' %}{{ raise_exception('none') }}{% endif %}"
        "{{ turn.content }}{% endfor %} reply"
    )
    model = Local(copy, dtype=torch.float32)
    assert model.reader.decode(model.inputs(Request("fox", "deep"))["input_ids"][0]).startswith("fox deep")


def test_what_a_model_cannot_do_is_told(writer):
    model = Local(writer, dtype=torch.float32)
    model.model.generate = lambda **_: (_ for _ in ()).throw(RuntimeError("no such kernel\nat line 3"))
    with pytest.raises(MovaError, match=r"fails as it writes \(no such kernel\); name another"):
        model(Request("say", "it"))
