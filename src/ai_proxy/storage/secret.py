"""The server's secret, that keys are hashed with: made once, kept beside the data, readable by its owner alone."""

import os
import secrets
from pathlib import Path

_NAME = "secret"
_MIN_LENGTH = 20  # as for AI_PROXY_SECRET


def load_or_make(directory: Path) -> str:
    """The secret in `directory`. Exits with a clear line if it can neither be read nor made."""
    path = directory / _NAME
    try:
        secret = _read(path) or _make(path)
    except OSError as error:
        message = f"ai-proxy: AI_PROXY_SECRET is not set, and the secret file beside the data fails: {error.strerror}"
        raise SystemExit(message) from None
    if len(secret) < _MIN_LENGTH:
        message = f"ai-proxy: {path}: too short for a secret: restore it, no key works without the right one"
        raise SystemExit(message)
    return secret


def exists(directory: Path) -> bool:
    return (directory / _NAME).exists()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="latin-1").strip()
    except FileNotFoundError:
        return None


def _make(path: Path) -> str:
    """Write a new secret. When two processes try at once, the first one's holds."""
    draft = path.with_name(f".{_NAME}-{os.getpid()}-{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
        file.flush()
        os.fsync(descriptor)  # a power cut must not leave keys without their secret
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text(encoding="latin-1").strip()
