"""Plans inside stock diffusers pipelines: `enable`, and the search on a pipeline's own loop."""
