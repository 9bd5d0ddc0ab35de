"""Official clients, unmodified, against a real server process. `make test-clients` runs them."""
