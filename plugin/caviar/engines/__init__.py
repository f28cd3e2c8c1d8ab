"""Where workers run: the interface that an engine has, the engine of processes, and the supervisor."""
