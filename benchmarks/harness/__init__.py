"""The frame of throughput.py: starting sides, watching them, and putting down what they did."""
