"""Write the measured figures of README.md and benchmarks/README.md from the files in results/.

`python -m benchmarks.report` rewrites what stands between `<!-- report: NAME -->` and `<!-- end report -->`
in both. A function for each name reads CSV files and returns Markdown: figures, counts and winners are
computed, none is typed. `--check` writes nothing, prints what would change, exits with 1 if anything would;
with another `--out` the pages go there.

Outside of these blocks no measured figure may stand; `loose_figures` finds those that do.
"""
