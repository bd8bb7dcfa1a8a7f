"""Token authentication of Ray: on unless the user says otherwise, with the token from where Ray itself reads it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
DEFAULT_PATH = "~/.ray/auth_token"


@dataclass(frozen=True)
class Token:
    """Token for a cluster and where it was read; null if there is none. Its text is in no ``repr``."""

    text: str | None = field(repr=False)
    source: str


def uses_token() -> bool:
    """Return True unless ``RAY_AUTH_MODE`` says otherwise."""
    return os.environ.get(MODE, "token").lower() == "token"


def token_file() -> Path:
    """Return the file that a token is read from, if no variable holds it: it may not exist."""
    return Path(os.environ.get(TOKEN_PATH) or DEFAULT_PATH).expanduser()


def token_here() -> Token:
    """Return the token of ``RAY_AUTH_TOKEN``, else of the file in ``RAY_AUTH_TOKEN_PATH`` or ``~/.ray/auth_token``."""
    if text := os.environ.get(TOKEN, "").strip():
        return Token(text, TOKEN)
    named = os.environ.get(TOKEN_PATH)
    source = f"{TOKEN_PATH}={named}" if named else DEFAULT_PATH
    try:
        text = token_file().read_text(encoding="utf-8").strip()
    except OSError:
        text = ""
    return Token(text or None, source)


def remedy_without(token: Token) -> str:
    """Return what to do where the token is missing.

    >>> remedy_without(Token(None, "RAY_AUTH_TOKEN_PATH=/etc/token"))
    'RAY_AUTH_TOKEN_PATH=/etc/token holds no token; correct it, or set RAY_AUTH_TOKEN'
    """
    if token.source == DEFAULT_PATH:
        return f"set {TOKEN} or {TOKEN_PATH}, or copy the token of the head to {DEFAULT_PATH}"
    return f"{token.source} holds no token; correct it, or set {TOKEN}"


def refresh() -> None:
    """Have Ray read the mode and the token from the environment, as it keeps those of an earlier connection."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # noqa: PLC0415

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def enter_mode() -> None:
    """Have Ray use a token in this process, unless the user says otherwise."""
    os.environ.setdefault(MODE, "token")
    refresh()
