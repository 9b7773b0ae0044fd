"""What only a search needs; `dipgo_fx.apply` imports nothing of it.

* Start at `recipe`: it runs what a `config` asks for and writes the plan; by a `journal` a search that was
  stopped goes on. `progress` are its bars.
* What it works with: `calibration` makes a `batch`; an `evaluator` runs `candidate` plans on it and charges
  a `run_budget`; `losses` say how far a result is off. `chunks` of a batch run one after the other, `shares`
  of them in several processes.
* The default recipe, `refine`: measures each step's `sensitivity`, fits a frontier (`fit_frontier`, with the
  `effort` that the budget pays for) and goes on from it with `neighbours`. For a point `choose_runs`
  compares steps to run, from `foresight` (nothing is run for it), `spacing` and `off_grid`. Weights come
  from `least_squares` step by step, then `gauss_newton` through the whole loop, then `damp_tail`; `stepwise`
  runs a loop step by step for them.
* The paper's recipe: `paper` trains the `pruner` network.
"""
