from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import insert, select, text
from sqlalchemy.exc import OperationalError

from server.security.users import first_start
from server.settings import load_settings
from server.storage.engine import install_id, is_migrated, make_engine, migrate, read, write
from server.storage.models import Setting, User, db


def test_the_migrations_lead_to_exactly_the_tables_of_the_models(tmp_path: Path):
    settings = load_settings({"FLOTILLA_HOME": str(tmp_path)})

    migrate(settings)

    with read(make_engine(settings.database_url)) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, db.metadata) == []
        assert is_migrated(connection)


def test_three_first_starts_at_once_make_one_admin_one_install_and_one_password(tmp_path: Path):
    settings = load_settings({"FLOTILLA_HOME": str(tmp_path / "home")})

    with ProcessPoolExecutor(3) as processes:
        passwords = list(processes.map(first_start, [settings] * 3))

    with read(make_engine(settings.database_url)) as connection:
        assert len([p for p in passwords if p]) == 1
        assert len(connection.execute(select(User)).all()) == 1
        assert len(install_id(connection)) == 6


def test_migrating_again_keeps_everything(tmp_path: Path):
    settings = load_settings({"FLOTILLA_HOME": str(tmp_path)})
    migrate(settings)
    with read(make_engine(settings.database_url)) as connection:
        before = install_id(connection)

    migrate(settings)

    with read(make_engine(settings.database_url)) as connection:
        assert install_id(connection) == before


def test_sqlite_writes_ahead_syncs_fully_and_holds_references(tmp_path: Path):
    with read(make_engine(f"sqlite:///{tmp_path}/x.db")) as connection:
        pragmas = {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in PRAGMAS}

    assert pragmas == PRAGMAS


PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_writer_holds_the_lock_from_its_first_statement(tmp_path: Path):
    settings = load_settings({"FLOTILLA_HOME": str(tmp_path)})
    migrate(settings)
    first = make_engine(settings.database_url)
    second = make_engine(settings.database_url, busy_timeout_s=0.05)

    def write_too() -> None:
        with write(second) as connection:
            connection.execute(select(Setting))

    with write(first), pytest.raises(OperationalError, match="locked"):
        write_too()


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path):
    settings = load_settings({"FLOTILLA_HOME": str(tmp_path)})
    migrate(settings)
    engine = make_engine(settings.database_url, busy_timeout_s=0.05)

    with write(engine), read(engine) as connection:
        assert len(connection.execute(select(Setting)).all()) == 1


def test_a_block_that_raises_leaves_nothing_behind(tmp_path: Path):
    settings = load_settings({"FLOTILLA_HOME": str(tmp_path)})
    migrate(settings)
    engine = make_engine(settings.database_url)

    def fail_half_way() -> None:
        with write(engine) as connection:
            connection.execute(insert(Setting).values(name="x", value="y"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()

    with read(engine) as connection:
        assert connection.execute(select(Setting).where(Setting.name == "x")).first() is None
