"""Quality at matched cost: pruned loops beside other packages, fewer steps and other searches.

`python -m benchmarks.quality` appends rows to results/quality.csv, one a measurement, and draws quality.md
from them; what the file has is not measured again, so a run can be stopped and several may share a folder,
each with models of its own. `--merge FILE ...` adds the rows of other files, `--plots` draws the pictures.

Settings and plans are chosen on calibration noise and measured on other noise (and other emoji). A ratio is
the share of MACs that is *removed*; every setting of a package is tried, and the one of highest PSNR among
those that keep at most 1 - ratio, plus 0.0125 in the packages' favour, is measured. `macs_kept` says what it
kept then. `search_full_runs` counts all settings that were tried, in unpruned runs of 48 samples.

`held_out_samples` were measured, `search_samples` chose a plan, `tuning_samples` a package's setting; the
cells of rows that are older than these columns are empty (`quality-sets.csv` has their counts). Nothing is
timed here: that is for `python -m benchmarks.speed`.
"""
