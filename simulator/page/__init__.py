"""The page at ``/``: the whole exchange at a glance, and the switches of its faults."""
