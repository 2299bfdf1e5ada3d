"""Keeps every bot's process as its rows want it, and turns the journals into rows."""
