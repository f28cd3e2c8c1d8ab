"""One address for everything: pages, a REST API, Optuna as a service, and the dashboards beside them."""
