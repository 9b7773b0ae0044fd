"""A run that is cut short leaves a pipeline as its own end does."""

from __future__ import annotations

import dipgo_fx
from benchmarks.coverage.subject import Subject
from dipgo_fx.pipelines.capturing import capture
from dipgo_fx.pipelines.denoiser import only_denoiser
from dipgo_fx.pipelines.pipeline_call import OWN, completed


def test_perturbed_attention_is_taken_back() -> None:
    """A run that ends by itself does that in its last lines."""
    subject = Subject.of("sd-pag")
    pipe = subject.build()
    before = pipe.unet.attn_processors
    call = {name: value for name, value in (subject.fixed or {}).items() if name not in OWN}
    dipgo_fx.trace_pipeline(pipe, inputs=subject.arguments, **call)
    assert pipe.unet.attn_processors == before


def test_a_run_that_is_cut_off_frees_what_was_loaded_for_it() -> None:
    """As its end does, which offloads models that `enable_model_cpu_offload` loads one after the other."""
    subject, freed = Subject.of("sd-text"), list[bool]()
    pipe = subject.build()
    assert subject.arguments is not None
    vars(pipe)["maybe_free_model_hooks"] = lambda: freed.append("forward" in vars(pipe.unet))
    capture(pipe, only_denoiser(pipe), completed(subject.arguments, subject.fixed or {}), 2)
    assert freed == [False]  # once, with the denoiser as it was found
