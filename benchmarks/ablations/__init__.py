"""What each part of a search is worth: losses, sparsity, the pruner network, samplers, ways to search.

`python -m benchmarks.ablations` appends rows to results/ablations.csv, one a variant and ratio, and draws
ablations.md from them; what the file has is not measured again. `--plots` draws how alike block outputs
are across steps (DiP-GO's figure 7) and which blocks plans keep (figure 6).

The paper's own ablations are CLIP scores of Stable Diffusion 1.5 at ratio 0.8, higher is better (unpruned
30.30); they stand beside ours in `paper_clip` to compare the order of the variants, not the values. Its
Table 6 gave random and genetic search 25 GPU-hours and its own 2.3; here all get the same unless
`--search-scale` says otherwise. A ratio is the share of MACs that is removed.
"""
