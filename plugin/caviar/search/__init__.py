"""The search's decisions: samplers, pruners, promotion, zooms and warm starts. Nothing here trains."""
