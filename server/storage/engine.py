"""Database connections and the migrations that bring the database up to date.

A reader sees one snapshot for as long as its block lasts. A writer takes SQLite's write lock at its first statement
(``BEGIN IMMEDIATE``): a transaction that reads first and upgrades later fails at once in spite of any busy time-out.
"""

from __future__ import annotations

import fcntl
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, insert, select

from server.settings import Settings
from server.storage.models import Setting

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_S = 5.0
_INSTALL_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_IMMEDIATE = "flotilla_immediate"


def make_engine(url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """A pooled engine; a writer waits *busy_timeout_s* for another one."""
    engine = create_engine(url, **engine_options(url))
    tune(engine, busy_timeout_s=busy_timeout_s)
    return engine


def engine_options(url: str) -> dict[str, Any]:
    """What `create_engine` is told beside the address: room for every thread of the web server."""
    return {"pool_size": 16, "max_overflow": 64, "pool_pre_ping": not url.startswith("sqlite")}


def tune(engine: Engine, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
    """Teach a SQLite engine its pragmas and its way to begin; other databases are left as they are."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def _prepare(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None  # the driver begins nothing by itself
        cursor = dbapi_connection.cursor()
        for pragma in (
            f"busy_timeout={int(busy_timeout_s * 1000)}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get(_IMMEDIATE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


@contextmanager
def read(engine: Engine) -> Iterator[Connection]:
    """One consistent view of the database; nothing is written."""
    with engine.connect() as connection:
        yield connection


@contextmanager
def write(engine: Engine) -> Iterator[Connection]:
    """One transaction that holds the write lock from its start; committed unless the block raises."""
    with engine.connect().execution_options(**{_IMMEDIATE: True}) as connection, connection.begin():
        yield connection


@contextmanager
def write_if_free(engine: Engine) -> Iterator[Connection]:
    """Like `write`, but raises ``OperationalError`` at once where another writer would have to be waited for."""
    with engine.connect().execution_options(**{_IMMEDIATE: True}) as connection:
        if engine.dialect.name != "sqlite":
            with connection.begin():
                yield connection
            return
        raw: Any = connection.connection.driver_connection
        (waits_ms,) = raw.execute("PRAGMA busy_timeout").fetchone()
        raw.execute("PRAGMA busy_timeout=0")
        try:
            with connection.begin():
                yield connection
        finally:
            raw.execute(f"PRAGMA busy_timeout={waits_ms}")


def migrate(settings: Settings) -> None:
    """Create the database or bring it up to date. Safe when several processes do so at once."""
    settings.make_home()
    with (settings.home / "migrate.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        engine = make_engine(settings.database_url, busy_timeout_s=30)
        try:
            with write(engine) as connection:
                if not is_migrated(connection):
                    command.upgrade(alembic_config(connection), "head")
                _ensure_install(connection)
        finally:
            engine.dispose()


def alembic_config(connection: Connection) -> Config:
    """Alembic's configuration for a run inside *connection*'s transaction."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def is_migrated(connection: Connection) -> bool:
    """Whether the database has the newest revision."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    newest = ScriptDirectory.from_config(config).get_current_head()
    return MigrationContext.configure(connection).get_current_revision() == newest


def install_id(connection: Connection) -> str:
    """The random part of client order ids, fixed for the life of a database."""
    return connection.execute(select(Setting.value).where(Setting.name == "install")).scalar_one()


def _ensure_install(connection: Connection) -> None:
    if connection.execute(select(Setting.value).where(Setting.name == "install")).first() is None:
        random_part = "".join(secrets.choice(_INSTALL_ALPHABET) for _ in range(6))
        connection.execute(insert(Setting).values(name="install", value=random_part))
