"""Signatures: the three kinds of API keys, and whether a text was signed with one.

HMAC-SHA256 in hex (either case); Ed25519 and RSA (PKCS#1 v1.5 with SHA-256) in base64. Pure. Which text a caller has to
sign is left to the doors; here it is only looked at for whether it could have been sent that way.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from simulator.core.rules import ApiError

HMAC, ED25519, RSA = "HMAC", "ED25519", "RSA"
RSA_BITS = (2048, 4096)
MAX_PEM = 4096  # characters; the largest key allowed has about 800

_ENCODED = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*")


def check_signature(kind: str, secret_or_public_key: str, payload: bytes, signature: str) -> None:
    """-1022 unless *signature* is that of *payload*. *kind* is HMAC with a secret, ED25519 or RSA with a public PEM."""
    if kind == HMAC:
        valid = _is_hmac(secret_or_public_key, payload, signature)
    else:
        valid = _is_signed(_public_key(secret_or_public_key), payload, signature)
    if not valid:
        raise invalid_signature()


def invalid_signature() -> ApiError:
    """-1022."""
    return ApiError(-1022, "Signature for this request is not valid.")


def parse_public_key(pem: str) -> str:
    """The kind of a public key, ED25519 or RSA; `ValueError` with a sentence when it cannot be used."""
    if "PRIVATE KEY" in pem:
        raise ValueError("public_key holds a private key: keep it to yourself, and send the public one.")
    if len(pem) > MAX_PEM:
        raise ValueError(f"public_key has {len(pem)} characters: send one PEM of at most {MAX_PEM}.")
    try:
        key = _public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(
            "public_key is not a PEM: send the text from -----BEGIN PUBLIC KEY----- to -----END PUBLIC KEY-----."
        ) from None
    if isinstance(key, Ed25519PublicKey):
        return ED25519
    if not isinstance(key, RSAPublicKey):
        raise ValueError("public_key is neither Ed25519 nor RSA: send a key of one of these kinds.")
    if not RSA_BITS[0] <= key.key_size <= RSA_BITS[1]:
        raise ValueError(f"public_key is RSA with {key.key_size} bits: send one of {RSA_BITS[0]} to {RSA_BITS[1]}.")
    return RSA


def is_percent_encoded(payload: bytes) -> bool:
    """Could *payload* stand in a URL as it is? What could not was not encoded before it was signed."""
    return _ENCODED.fullmatch(payload) is not None


def _is_hmac(secret: str, payload: bytes, signature: str) -> bool:
    wanted = hmac.digest(secret.encode(), payload, "sha256").hex()
    return hmac.compare_digest(wanted.encode(), signature.lower().encode("utf-8", "replace"))


def _is_signed(key: object, payload: bytes, signature: str) -> bool:
    try:
        raw = base64.b64decode(signature, validate=True)
        if isinstance(key, Ed25519PublicKey):
            key.verify(raw, payload)
        elif isinstance(key, RSAPublicKey):
            key.verify(raw, payload, PKCS1v15(), SHA256())
        else:
            return False
    except (binascii.Error, ValueError, InvalidSignature):
        return False
    return True


@lru_cache(maxsize=1024)
def _public_key(pem: str) -> object:
    return load_pem_public_key(pem.encode("utf-8", "replace"))
