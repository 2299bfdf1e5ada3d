"""How long to wait before a bot is started again, and when to stop trying. Pure: ages in, seconds out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """The first restart comes at once, later ones after a delay that doubles; too many deaths are a crash loop."""

    base_s: float = 1.0
    cap_s: float = 60.0
    max_deaths: int = 5
    window_s: float = 600.0
    close_only_every_s: float = 60.0

    def recent(self, death_ages_s: Sequence[float]) -> int:
        """How many of the deaths still count. One that seems to lie in the future (a moved clock) counts."""
        return sum(1 for age in death_ages_s if age <= self.window_s)

    def delay_s(self, deaths: int, jitter: float) -> float:
        """Wait after the last of *deaths*; *jitter* from 0 to 1 takes up to half of it away."""
        if deaths <= 1:
            return 0.0
        doublings = min(deaths - 2, 30)
        return float(min(self.cap_s, self.base_s * 2**doublings)) * (1 - jitter / 2)

    def is_crash_loop(self, deaths: int) -> bool:
        """Whether a person has to look before the bot is started again."""
        return deaths >= self.max_deaths
