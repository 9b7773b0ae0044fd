"""Plans inside stock diffusers pipelines: `enable`, and the search on a pipeline's own loop.

* Running: `enabling` lets a `pruned_forward` stand in for a denoiser's own. `step_clock` and `step_watcher`
  tell where the pipeline is, `call_arguments` how it calls; `graphs` are what runs, `lanes` carry values from
  step to step.
* Searching: `pruning` is the story, `capturing` keeps what a pipeline makes before its loop, `tracing` makes
  a graph of the loop. `pipeline_call` is what a caller says of the run, `lending` the run that is cut short.
* Both: `denoiser` finds the model.
"""
