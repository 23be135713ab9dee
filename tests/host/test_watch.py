"""The watch on the host: it knows what the pack takes, and sees each kind of change to it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import watch
from conftest import HERE
from host_names import NAMES
from host_source import Host
from pack_uses import read


@pytest.fixture(scope="module")
def uses():
    return read(watch.PACK)


def faults(root, uses):
    return [fault.text for fault in watch.faults(Host(root), uses, watch.recorded())]


def test_the_host_has_all_that_the_pack_takes(host_place, uses):
    assert faults(host_place[0], uses) == []


def test_the_recorded_surface_is_that_of_the_pack(host_place, uses):
    """If it is not: python tests/host/watch.py --write COMFYUI, with the main host and the older ones."""
    host = Host(host_place[0])
    known = {name for name, since in watch.recorded().items() if tuple(since) <= host.version}
    assert known == set(watch.surface(host, uses))
    for name in (
        "comfy.samplers.calc_cond_batch",
        "comfy.samplers.CFGGuider.predict_noise",  # overridden
        "comfy.samplers.CFGGuider.inner_model",  # read from self
        "comfy.model_base.BaseModel.extra_conds_shapes",
        "comfy.model_patcher.ModelPatcher.add_object_patch",  # of an object that a node is given
        "comfy.context_windows.IndexListContextHandler.context_length",  # by getattr
        "comfy_api.latest.io.Sigmas.Input",
        "latent_preview.get_previewer",
    ):
        assert name in known


@pytest.mark.parametrize(("where", "name", "file"), NAMES)
def test_the_pack_has_the_names_that_the_watch_looks_for(where, name, file):
    assert re.search(rf"\b{name}\b", (watch.PACK / file).read_text(encoding="utf-8"))


WINDOWS = "comfy/context_windows.py"
CHANGES = {
    "a function is gone": (
        "comfy/samplers.py",
        ("def calc_cond_batch(", "def calc_conds("),
        "comfy.samplers.calc_cond_batch is gone",
    ),
    "a module is gone": ("comfy/sampler_helpers.py", None, "comfy.sampler_helpers is gone"),
    "a parameter has another name": (
        "comfy/sd.py",
        (
            "def load_diffusion_model_state_dict(sd, model_options={}, metadata=None",
            "def load_diffusion_model_state_dict(sd, model_options={}, meta=None",
        ),
        "comfy.sd.load_diffusion_model_state_dict no longer takes metadata",
    ),
    "a parameter is new and needed": (
        "comfy/model_prefetch.py",
        ("def prefetch_queue_pop(queue, device, module", "\\g<0>, core"),
        "comfy.model_prefetch.prefetch_queue_pop now needs core",
    ),
    "an overridden method is no longer called so": (
        "comfy/model_base.py",
        ("def extra_conds_shapes(", "def shapes_of_extra_conds("),
        "comfy.model_base.BaseModel.extra_conds_shapes is gone",
    ),
    "an overridden method gets more": (
        "comfy/model_base.py",
        ("def process_latent_out(self, latent", "\\g<0>, shapes"),
        "MOVA.process_latent_out does not take shapes (comfy.model_base.BaseModel.process_latent_out)",
    ),
    "an attribute of self is gone": (
        "comfy/samplers.py",
        ("self.model_patcher", "self.patcher"),
        "MovaGuider reads self.model_patcher, which comfy.samplers.CFGGuider lacks",
    ),
    "a constructor that is not run sets something new": (
        "comfy/sd.py",
        ("self.disable_offload", "self.stays_loaded"),
        "MovaAudioVAE lacks stays_loaded, which comfy.sd.VAE sets and reads",
    ),
    "an object that nodes are given lacks a method": (
        "comfy/model_patcher.py",
        ("def add_object_patch(", "def patch_object("),
        "comfy.model_patcher.ModelPatcher.add_object_patch is gone",
    ),
    "a sampler calls back with less": (
        "comfy/samplers.py",
        ('callback\\(x\\["i"\\], x\\["denoised"\\], x\\["x"\\], ', 'callback(x["i"], x["denoised"], '),
        "after, as comfy.samplers.KSAMPLER.sample calls it, now needs _",
    ),
    "a sampler no longer calls back": (
        "comfy/samplers.py",
        ("callback\\(x", "report(x"),
        "comfy.samplers.KSAMPLER.sample no longer calls callback",
    ),
    "the model is called with something new": (
        "comfy/model_base.py",
        ("context=context, control=control", "text=context, control=control, context=context"),
        None,  # HostModel.forward takes what it does not know
    ),
    "a type of nodes is gone": (
        "comfy_api/latest/_io.py",
        ("class Sigmas\\(", "class NoiseLevels("),
        "comfy_api.latest.io.Sigmas.Input is gone",
    ),
    "the argument that is wrapped has another place": (
        "comfy/samplers.py",
        ("def outer_sample(self, noise, latent_image, sampler, sigmas, denoise_mask=None, ", "\\g<0>audio_mask=None, "),
        "callback is no longer argument 5 of comfy.samplers.CFGGuider.outer_sample",
    ),
    "an attribute that is read with care is no longer set": (
        WINDOWS,
        ("causal_anchor_index", "anchor_index"),
        "comfy.context_windows.IndexListContextHandler.evaluate_context_windows no longer has the name "
        "causal_anchor_index",
    ),
    "context windows have another name for their length": (
        WINDOWS,
        ("\\bcontext_length", "window_length"),
        "comfy.context_windows.IndexListContextHandler.context_length is gone",
    ),
    "context windows have another name for their dimension": (
        WINDOWS,
        ("\\bdim\\b", "axis"),
        "comfy.context_windows.IndexListContextHandler.dim is gone",
    ),
    "a window has another name for its frames": (
        WINDOWS,
        ("\\bindex_list", "indices"),
        "comfy.context_windows.IndexListContextWindow.index_list is gone",
    ),
    "a window has another name for its sound": (
        WINDOWS,
        ("modality_windows", "other_windows"),
        "comfy.context_windows.IndexListContextWindow.modality_windows is gone",
    ),
    "context windows are read under another key": (
        "comfy/samplers.py",
        ("context_handler", "window_handler"),
        "comfy.samplers no longer has the name context_handler",
    ),
    "context windows are set under another key": (
        "comfy_extras/nodes_context_windows.py",
        ("context_handler", "window_handler"),
        "comfy_extras.nodes_context_windows no longer has the name context_handler",
    ),
    "an attribute that is set is no longer read": (
        "comfy/model_patcher.py",
        ("cached_patcher_init", "made_by"),
        "comfy.model_patcher.ModelPatcher.cached_patcher_init is gone",
    ),
    "conditions are given the shapes under another key": (
        "comfy/samplers.py",
        ("seed=seed, latent_shapes=latent_shapes", "seed=seed, shapes=latent_shapes"),
        "comfy.samplers.process_conds no longer has the name latent_shapes",
    ),
    "context windows look for the shapes under another key": (
        WINDOWS,
        ("'latent_shapes'", "'shapes'"),
        "comfy.context_windows.IndexListContextHandler._get_latent_shapes no longer has the name latent_shapes",
    ),
    "context windows no longer ask for the sound": (
        WINDOWS,
        ("model.map_context_window_to_modalities(", "model.windows_of("),
        "comfy.context_windows no longer calls map_context_window_to_modalities",
    ),
    "context windows ask for the sound with less": (
        WINDOWS,
        ("window.index_list, map_shapes, self.dim", "window.index_list, map_shapes"),
        "MOVA.map_context_window_to_modalities, as comfy.context_windows calls it, now needs dim",
    ),
    "context windows ask for the sound in another order": (
        WINDOWS,
        ("window.index_list, map_shapes, self.dim", "window.index_list, self.dim, map_shapes"),
        "MOVA.map_context_window_to_modalities, as comfy.context_windows calls it, gets dim where it takes "
        "latent_shapes",
    ),
    "context windows no longer have conditions cut": (
        WINDOWS,
        ("_model.resize_cond_for_context_window(", "_model.cut("),
        "comfy.context_windows no longer calls resize_cond_for_context_window",
    ),
    "context windows have conditions cut in another order": (
        WINDOWS,
        ("cond_key, cond_value, window, x_in, device", "cond_key, window, cond_value, x_in, device"),
        "MOVA.resize_cond_for_context_window, as comfy.context_windows calls it, gets window where it takes cond_value",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_host_is_seen(host_place, uses, tmp_path, change):
    file, edit, said = CHANGES[change]
    place = changed(host_place[0], tmp_path, file)
    if edit is None:
        place.unlink()
    else:
        before = place.read_text(encoding="utf-8")
        old, new = edit
        after = re.sub(old if "\\" in old else re.escape(old), new, before)
        assert after != before, "this host has it in another form"
        place.write_text(after, encoding="utf-8")
    found = faults(tmp_path, uses)
    assert said in found if said else not found, found


def changed(root: Path, copy: Path, file: str) -> Path:
    """The checkout at another place, all links but for one file, which is a copy."""
    for part in Path(file).parts:
        for entry in root.iterdir():
            if entry.name != part and entry.name not in (".git", ".venv"):
                (copy / entry.name).symlink_to(entry)
        root, copy = root / part, copy / part
        if root.is_dir():
            copy.mkdir()
    shutil.copy(root, copy)
    return copy


def test_a_module_that_may_be_missing_is_missed_where_it_was(host_place, uses, tmp_path):
    """Without it the pack runs, but what it was used for is quietly lost."""
    changed(host_place[0], tmp_path, "comfy/model_prefetch.py").unlink()
    assert set(faults(tmp_path, uses)) == {
        "comfy.model_prefetch is gone",
        "comfy.model_prefetch.make_prefetch_queue is gone",
        "comfy.model_prefetch.prefetch_queue_pop is gone",
    }


def test_it_runs_in_any_python_and_exits_with_1_if_something_is_gone(host_place, tmp_path):
    changed(host_place[0], tmp_path, "latent_preview.py").write_text("")
    command = [sys.executable, "-I", HERE / "watch.py", host_place[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(": 0 faults")
    done = subprocess.run([*command[:-1], tmp_path], capture_output=True, text=True)
    assert done.returncode == 1 and "latent_preview.get_previewer is gone" in done.stdout
