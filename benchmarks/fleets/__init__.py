"""Workers of simulated training: what they reach together, measured, on paper and in simulation."""
