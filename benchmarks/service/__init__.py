"""How fast the service answers: ``python -m benchmarks.service``."""
