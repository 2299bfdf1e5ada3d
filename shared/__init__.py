"""Contracts that every room shares: config, events, states, units, strategy definitions. No I/O, no framework."""
