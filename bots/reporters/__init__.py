"""Where a bot tells what it does: its journal."""
