-- PostgreSQL runs this once, when its volume is empty: Optuna and MLflow cannot share a database.
CREATE DATABASE mlflow;
