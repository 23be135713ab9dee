"""Nodes for the tests only: they bring given tensors into a graph, and tensors out of it."""

import functools
import logging

import comfy.model_management

from .anything import Any, Odd, Witness
from .broken import NanAt, NanClip, NanSampler, NanText, NanVAE
from .downloads import Downloads
from .given import Cached, FrameRate, Given, GivenLatent, Images, Nothing, Text
from .model import About, Forward, Patch, Trainable
from .saving import Resample, Save, SaveAudio, SaveConditioning, Sigmas
from .stand_ins import Anything, Clip, CountingClip, HunyuanVAE, Size, Tokenizer, WanVAE
from .trouble import OneStepMore, StopAt, Trouble
from .writers import Encoder, LanguageModel, Painted

load_models_gpu = comfy.model_management.load_models_gpu


@functools.wraps(load_models_gpu)
def noted_load(*args, **kwargs):
    """The host says nothing when weights are asked for that are still loaded."""
    logging.info("[probe] weights are asked for")
    return load_models_gpu(*args, **kwargs)


comfy.model_management.load_models_gpu = noted_load
unload_all_models = comfy.model_management.unload_all_models


@functools.wraps(unload_all_models)
def noted_unload(*args, **kwargs):
    unload_all_models(*args, **kwargs)
    logging.info(f"[probe] all is unloaded: {len(comfy.model_management.current_loaded_models)} are left")


comfy.model_management.unload_all_models = noted_unload

NODES = (
    Downloads,
    Anything,
    NanAt,
    NanClip,
    NanSampler,
    NanText,
    NanVAE,
    Trouble,
    OneStepMore,
    StopAt,
    Given,
    Cached,
    GivenLatent,
    Text,
    FrameRate,
    Nothing,
    Clip,
    CountingClip,
    Size,
    Tokenizer,
    WanVAE,
    LanguageModel,
    Painted,
    Encoder,
    HunyuanVAE,
    Images,
    Sigmas,
    Patch,
    Forward,
    Save,
    SaveConditioning,
    SaveAudio,
    Resample,
    About,
    Trainable,
    Any,
    Odd,
    Witness,
)
NODE_CLASS_MAPPINGS = {f"Probe{cls.__name__}": cls for cls in NODES}
