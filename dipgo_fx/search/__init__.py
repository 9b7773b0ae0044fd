"""What only a search needs; `dipgo_fx.apply` imports nothing of it.

* What a recipe is asked for: `config`. What it works with: `calibration` makes a `batch`; an `evaluator` runs
  `candidate` plans on it and charges a `run_budget`; `losses` say how far a result is off. `chunks` of a
  batch run one after the other, `shares` of them in several processes.
* The default recipe: `refine` evaluates whole-step plans (`spacing`) placed by `sensitivity`, fits a frontier
  (`fit_frontier`) and goes on with `neighbours`. Weights come from `least_squares` step by step, then
  `gauss_newton` through the whole loop, then `damp_tail`; `stepwise` runs a loop step by step for them.
* The paper's recipe: `paper` trains the `pruner` network.
"""
