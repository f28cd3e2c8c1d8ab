"""The network that is really best: raced over seeds, trained on all that may be learned from, tested once, exported."""
