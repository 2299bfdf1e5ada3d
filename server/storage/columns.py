"""The column type for money: exact, as text."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import Text
from sqlalchemy.types import TypeDecorator

from shared.units import plain


class Exact(TypeDecorator[Decimal]):
    """``Decimal`` kept as text without exponent: no digit is lost, and sums are made in Python."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Decimal | int | str | None, dialect: Any) -> str | None:
        return None if value is None else plain(Decimal(value))

    def process_result_value(self, value: str | None, dialect: Any) -> Decimal | None:
        return None if value is None else Decimal(value)
