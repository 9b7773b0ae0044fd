"""Plans inside stock diffusers pipelines: `enable`, and the search on a pipeline's own loop.

* Running: `enabling` puts a `PrunedForward` in a denoiser's place. `step_clock` and `sample_rows` tell where
  the pipeline is and how it calls; `lanes` run the steps.
* Searching: `pruning` is the story, `capturing` keeps what a pipeline makes before its loop, `tracing` makes
  a graph of the loop.
* Both: `denoiser` finds the model.
"""
