"""Quality at matched cost: pruned loops beside other packages, fewer steps and other searches.

`python -m benchmarks.quality` appends rows to results/quality.csv, one a measurement, keeps the errors of
single images in results/quality-images/, and draws quality.md from both. What is there, of as many images,
is not measured again, so a run can be stopped and several may share a folder; of rows of one measurement the
last counts. Before it starts it says how many rows are missing and about how long they take. `--merge FILE
...` adds the rows of other files, `--plots` draws the pictures.

Settings and plans are chosen on calibration noise and measured on other noise (and other emoji). A ratio is
the share of MACs that is *removed*; every setting of a package is tried, and the one of highest PSNR among
those that keep at most 1 - ratio, plus 0.0125 in the packages' favour, is measured. `macs_kept` says what it
kept then. `search_full_runs` counts all settings that were tried, in unpruned runs of 48 samples.

Results are held against the unpruned loop and against the converged images: the same noise in
`--converged-steps` steps of second order from the loop's first timestep. Both are drawn once a case, into
`--cache`. `--frechet N` measures only Fréchet distances of N images to real ones, 5,000 at least, beside
those of the unpruned loop, into quality-frechet.csv: name the few `--methods` and `--ratios` it is for.

`--guidance` takes scales of classifier-free guidance; without it a model has its own, and the cell of that
column stays empty. A quality.csv from before the column takes such rows only: `--renew` gives it the columns
of today, once no process that started before is writing. `--schedulers` leaves out those that a model was
not trained for.

`held_out_samples` were measured, `search_samples` chose a plan, `tuning_samples` a package's setting; the
cells of rows that are older than these columns are empty (`quality-sets.csv` has their counts). Seconds are
those of the machine at the time, to plan by: speed is for `python -m benchmarks.speed`.
"""
