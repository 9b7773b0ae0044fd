"""`python -m dipgo_fx.cli` is the command line, as `python -m dipgo_fx` is."""

from . import main

raise SystemExit(main())
