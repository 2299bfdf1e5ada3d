"""A bot that a person launches, and the configs it is given."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENT: dict[str, Any] = {
    "capital_per_trade": "200",
    "max_positions": 1,
    "entry_order_type": "market",
    "holding_time": 600,
    "profit_target_pct": 0.05,
    "stop_loss_pct": 0.2,
    "rsi_period": 5,
    "buy_below": 90,
    "sell_above": 99.9,
    "cooldown": 5,
}
QUICK = PATIENT | {"holding_time": 1, "cooldown": 0}


class Terminal:
    """A bot that was launched by hand; what it prints goes into two files."""

    def __init__(self, folder: Path, environment: dict[str, str], *arguments: str, stdout: int | None = None) -> None:
        self.out, self.err = folder / "out", folder / "err"
        folder.mkdir(parents=True)
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "bots" / "trading_bot.py"), *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout or out,
                stderr=err,
                start_new_session=True,
            )

    def ends(self) -> int:
        return self.process.wait(40)

    def end_with(self, number: int) -> int:
        self.process.send_signal(number)
        return self.ends()

    def said(self) -> str:
        return self.err.read_text()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_text().splitlines()]


def is_running(fleet: Any, bot_id: int) -> bool:
    return bool(fleet.bot(bot_id)["status"] == "running")
