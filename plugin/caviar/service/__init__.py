"""`caviar serve`: pages, REST, optuna-dashboard and MLflow behind one address."""
