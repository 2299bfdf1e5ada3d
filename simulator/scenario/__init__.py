"""Runs that are written down: accounts, faults and orders at set moments of market time, from a YAML file.

``document`` reads YAML strictly, ``script`` makes a checked script of it, ``timeline`` puts its steps in order, and
``play`` takes them. Nothing here reads a clock or draws chance: the same file gives the same run.
"""

from simulator.scenario.document import BadScenario
from simulator.scenario.play import Play
from simulator.scenario.script import Script, read_script

__all__ = ["BadScenario", "Play", "Script", "read_script"]
