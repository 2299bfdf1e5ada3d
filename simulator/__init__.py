"""A Binance-compatible spot exchange for this machine: ``python -m simulator``."""
