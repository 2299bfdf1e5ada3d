"""Everything that can go wrong on command: what kinds there are, which are on, and how they act.

``kinds`` describes and checks, ``switchboard`` knows what is on, ``calls`` acts on requests, ``messages`` on what
streams deliver, and ``plant`` is what the exchange itself lets a fault do.
"""

from simulator.faults.calls import Asked, Cut, HtmlError, perform
from simulator.faults.kinds import KINDS, BadFault, Fault, Kind, kinds_table
from simulator.faults.switchboard import Active, Faults

__all__ = [
    "KINDS", "Active", "Asked", "BadFault", "Cut", "Fault", "Faults", "HtmlError", "Kind", "kinds_table", "perform",
]  # fmt: skip
