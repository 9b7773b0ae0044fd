"""`python -m dipgo_fx` is the command line."""

from .cli import main

raise SystemExit(main())
