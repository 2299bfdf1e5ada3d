"""Encryption of secrets at rest.

Fernet with several keys: the first encrypts, all decrypt, so that keys can be rotated. The context (such as
``credentials:3``) is part of the encrypted payload: a blob copied into another row cannot be opened there.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import Connection, insert, select, update

from server.settings import BadSetting, Settings
from server.storage.models import Credential
from server.storage.times import now_ms
from shared.errors import FlotillaError, NotFound

_MAKE_ONE = 'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'


class Unsealable(FlotillaError):
    """A sealed value that none of the keys opens, or that belongs elsewhere."""

    code = "unsealable"


class Vault:
    """Seals small JSON documents with the installation's keys, newest first."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys])
        self._keys = [key.encode() for key in keys]

    def seal(self, context: str, data: Mapping[str, Any]) -> bytes:
        """*data* encrypted for *context* only."""
        return self._fernet.encrypt(json.dumps({"context": context, "data": dict(data)}).encode())

    def open(self, context: str, blob: bytes) -> dict[str, Any]:
        """What was sealed for *context*. Raises `Unsealable`."""
        try:
            document = json.loads(self._fernet.decrypt(blob))
        except InvalidToken:
            raise Unsealable(
                f"The secret of {context} cannot be opened with the present keys. "
                "Put the key it was sealed with into FLOTILLA_SECRET_KEYS, or enter the secret again."
            ) from None
        if document["context"] != context:
            raise Unsealable(f"The secret of {context} was sealed for something else. Enter it again.")
        data: dict[str, Any] = document["data"]
        return data

    def derived(self, purpose: str) -> list[str]:
        """A signing key for *purpose* from each key, newest first."""
        return [hmac.new(key, purpose.encode(), hashlib.sha256).hexdigest() for key in self._keys]


def load_vault(settings: Settings) -> Vault:
    """The vault of this installation; its key is generated at the first call. Raises `BadSetting`."""
    if settings.secret_keys:
        for number, key in enumerate(settings.secret_keys, start=1):
            if not _is_key(key):
                raise BadSetting(
                    f"FLOTILLA_SECRET_KEYS: entry {number} ({len(key)} characters) is not a Fernet key. "
                    f"Make one with: {_MAKE_ONE}"
                )
        return Vault(settings.secret_keys)
    settings.make_home()
    key = _generated_key(settings)
    if not _is_key(key):
        raise BadSetting(
            f"{settings.key_file} holds no usable key. Restore it from a backup, or set FLOTILLA_SECRET_KEYS; "
            "stored exchange keys cannot be read without it."
        )
    return Vault([key])


def create_credential(
    connection: Connection, vault: Vault, *, name: str, exchange: str, api_key: str, api_secret: str
) -> int:
    """Store exchange keys; the id of the row. Only the key's last four characters stay readable."""
    row = {"name": name, "exchange": exchange, "api_key_last4": api_key[-4:], "sealed": b"", "created_ms": now_ms()}
    credential_id: int = connection.execute(insert(Credential).values(**row)).inserted_primary_key[0]  # type: ignore[index]
    sealed = vault.seal(f"credentials:{credential_id}", {"api_key": api_key, "api_secret": api_secret})
    connection.execute(update(Credential).where(Credential.id == credential_id).values(sealed=sealed))
    return credential_id


def reseal_credential(
    connection: Connection, vault: Vault, credential_id: int, *, api_key: str | None, api_secret: str | None
) -> None:
    """Replace what is given of stored exchange keys; where both are, the old ones need not be readable.

    Raises `NotFound`, `Unsealable`.
    """
    if api_key is None or api_secret is None:
        old_key, old_secret = open_credential(connection, vault, credential_id)
        api_key, api_secret = api_key or old_key, api_secret or old_secret
    sealed = vault.seal(f"credentials:{credential_id}", {"api_key": api_key, "api_secret": api_secret})
    values = {"sealed": sealed, "api_key_last4": api_key[-4:]}
    connection.execute(update(Credential).where(Credential.id == credential_id).values(**values))


def open_credential(connection: Connection, vault: Vault, credential_id: int) -> tuple[str, str]:
    """API key and secret of a stored credential. Raises `NotFound`, `Unsealable`."""
    blob = connection.execute(select(Credential.sealed).where(Credential.id == credential_id)).scalar_one_or_none()
    if blob is None:
        raise NotFound(f"There is no credential {credential_id}.")
    data = vault.open(f"credentials:{credential_id}", blob)
    return data["api_key"], data["api_secret"]


def write_private_file(path: os.PathLike[str], text: str) -> bool:
    """Create *path* (0600) with *text* in one step; False if it was there already, which is then left alone."""
    temporary = f"{os.fspath(path)}.{os.getpid()}.{os.urandom(4).hex()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # fails if the name is taken, and never shows a half-written file
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True


def _generated_key(settings: Settings) -> str:
    if not settings.key_file.exists():
        write_private_file(settings.key_file, Fernet.generate_key().decode() + "\n")
    return settings.key_file.read_text().strip()


def _is_key(text: str) -> bool:
    try:
        Fernet(text)
    except ValueError:
        return False
    return True
