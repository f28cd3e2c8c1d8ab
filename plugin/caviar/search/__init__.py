"""The search: the objective, its samplers and pruners, and the worker that runs trials of a study."""
