"""The worker: it claims trials, trains them, writes what they report, and keeps the best network."""
