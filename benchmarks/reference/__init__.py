"""Reference models: three small denoisers trained for real, their data and their training."""
