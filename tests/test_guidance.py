import itertools

import pytest
import torch

from mova import MovaError
from mova.sampling.guidance import Guidance, guided


def evaluations():
    values = {kind: (torch.randn(4), torch.randn(3)) for kind in itertools.product((False, True), repeat=2)}
    calls = []

    def evaluate(text, bridge):
        calls.append((text, bridge))
        return values[text, bridge]

    return evaluate, values, calls


@pytest.mark.parametrize(
    ("guidance", "evaluated"),
    [
        (Guidance(1.0), [(True, True)]),
        (Guidance(5.0), [(False, True), (True, True)]),
        (Guidance(4.0, bridge=4.0), [(False, False), (True, True)]),
        (Guidance(5.0, bridge=3.0), [(False, False), (False, True), (True, True)]),
        (Guidance(1.0, bridge=2.5), [(False, False), (False, True), (True, True)]),
        (Guidance(5.0, audio_text=2.0), [(False, True), (True, True)]),
        (Guidance(1.0, audio_text=3.0), [(False, True), (True, True)]),
        (Guidance(5.0, bridge=2.0, audio_text=7.0), [(False, False), (False, True), (True, True)]),
        (Guidance(0.0), [(False, True)]),
        (Guidance(0.0, bridge=0.0), [(False, False)]),
    ],
)
def test_the_paper_s_formula_with_no_evaluation_in_vain(guidance, evaluated):
    evaluate, v, calls = evaluations()
    found = guided(evaluate, guidance)
    assert calls == evaluated
    for i, text in enumerate((guidance.text, guidance.audio)):
        off, on, with_text = v[False, False][i], v[False, True][i], v[True, True][i]
        wanted = off + guidance.bridge * (on - off) + text * (with_text - on)
        torch.testing.assert_close(found[i], wanted, rtol=1e-5, atol=1e-5)


def test_ordinary_guidance_is_the_published_formula_to_the_bit():
    evaluate, v, _ = evaluations()
    for found, negative, positive in zip(guided(evaluate, Guidance(5.0)), v[False, True], v[True, True], strict=True):
        assert torch.equal(found, negative + 5.0 * (positive - negative))


@pytest.mark.parametrize("scales", [{"text": -1.0}, {"bridge": float("inf")}, {"audio_text": float("nan")}])
def test_a_scale_out_of_range_is_refused(scales):
    with pytest.raises(MovaError, match="must be 0 or more"):
        Guidance(**scales)
