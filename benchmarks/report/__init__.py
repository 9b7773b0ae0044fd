"""Write the measured figures of README.md, dipgo_fx/GUIDE.md and benchmarks/README.md from the results.

`python -m benchmarks.report` rewrites what stands between `<!-- report: NAME -->` and `<!-- end report -->`
in them. A function for each name reads CSV files in results/ and returns Markdown: figures, counts and
winners are computed, none is typed. `--check` writes nothing, prints what would change, exits with 1 if
anything would; with another `--out` the pages go there.

Outside of these blocks no measured figure may stand; `loose_figures` finds those that do.
"""
