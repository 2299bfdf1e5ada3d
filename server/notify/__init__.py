"""Alerts to people and commands from them; only the supervisor's process sends and listens."""
