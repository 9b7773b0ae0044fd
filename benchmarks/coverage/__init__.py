"""Which models, schedulers and pipelines of the installed diffusers take a plan."""
