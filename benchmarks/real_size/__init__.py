"""Measure speed, compiling and memory on denoisers at full width, with random weights.

Contestants run in one process: each once a round, in an order that turns round every time. On a CPU latents
are small and steps few, so that a run ends; on a GPU (`--device cuda --dtype bfloat16`) they are those of the
models' own images, timed by CUDA events. Rows of speed go to results/speed.csv, where those of other models,
devices and step counts stay; `--resume` leaves out models that have rows. A search runs in a process of its
own, for its peak.
"""
