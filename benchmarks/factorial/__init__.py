"""What each idea of the default search is worth alone: all combinations of four choices.

`python -m benchmarks.factorial` measures every combination of which steps run (evenly spread, placed by
measured sensitivity, those that the search found), what predicts at the others (the last value, linear
extrapolation, weights fitted to unpruned values, weights fitted on the pruned path, these after a
Gauss-Newton step), guidance in one call of the model or in two halves with steps of their own, and whole
steps or blocks. Rows go to factorial.csv, with the columns of quality.csv and a combination as the method;
errors of single images are kept beside it, and factorial.md is drawn from both. What is there is not
measured again.

A combination is a list of keep tables, of which its own way to predict chooses: all are evaluated on a third
of the calibration samples, the best few on all. Whole steps leave what is left of the budget; blocks are
plans with outer blocks at all other steps, filled to the budget, or the search's plan as it is, unless that
is of whole steps. Steering fits what stands in for a prediction of the model: where its head runs, it leaves
linear extrapolation. Models without guidance have one call. The full runs of a search are in every row that
uses it, its seconds only in the first.
"""
