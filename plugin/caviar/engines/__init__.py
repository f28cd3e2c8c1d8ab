"""Where workers run: the processes that train, and the supervisor that starts and replaces them."""
