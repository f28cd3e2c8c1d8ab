"""The fleet: several networks stacked into one compiled program."""
