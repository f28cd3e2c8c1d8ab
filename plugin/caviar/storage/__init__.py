"""Where studies live: opening Optuna's storages, the tickets that hand out trials, the leases that guard them."""
