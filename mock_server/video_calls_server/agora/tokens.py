"""Mint Agora tokens ("4. Join Video Call", "Security Considerations" 4).

The package `agora-token-builder` writes version 006. It does not check its inputs, so this module does. PyPI
has no package of Agora for version 007 (AccessToken2), so `pack_007` writes it. The tests compare tokens of
both versions with tokens from Agora's own packages.
"""

import base64
import hmac
import re
import secrets
import struct
import time
import zlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Literal

from agora_token_builder.AccessToken import AccessToken

from video_calls_server.domain.clock import instant
from video_calls_server.domain.people import MAX_UID

TOKEN_LIFETIME = timedelta(hours=1)

JOIN_CHANNEL = 1
PUBLISH_AUDIO = 2
PUBLISH_VIDEO = 3
PUBLISH_DATA = 4
PUBLISHER = (JOIN_CHANNEL, PUBLISH_AUDIO, PUBLISH_VIDEO, PUBLISH_DATA)
"""The privileges of the publisher role."""

RTC = 1
"""The service of an AccessToken2 that voice and video calls use."""

TokenVersion = Literal["006", "007"]

_HEX_32 = re.compile(r"[0-9A-Fa-f]{32}", re.ASCII)
CHANNEL_NAME = re.compile(r"[A-Za-z0-9 !#$%&()+:;<=.>?@^_{}|~,\[\]-]{1,63}", re.ASCII)
"""The channel names that Agora allows."""


@dataclass(frozen=True, slots=True)
class AgoraProject:
    """The app id and certificate of an Agora project, 32 hex digits each.

    Raises:
        ValueError: if the app id or the certificate is not 32 hex digits.
    """

    app_id: str
    app_certificate: str = field(repr=False)

    def __post_init__(self) -> None:
        for name, value in (("app id", self.app_id), ("app certificate", self.app_certificate)):
            if not _HEX_32.fullmatch(value):
                raise ValueError(
                    f"the Agora {name} is not 32 hexadecimal digits (it has {len(value)} characters); "
                    "copy it from the Agora console"
                )


DEVELOPMENT_PROJECT = AgoraProject("de7e109de7e109de7e109de7e109de7e", "de7e109c0dede7e109c0dede7e109c0d")
"""Signs tokens if no project is configured. It is public, and Agora's servers do not know it."""


@dataclass(frozen=True, slots=True)
class MintedToken:
    """A token, and the time (in UTC, a whole second) at which the token and all its privileges expire."""

    token: str = field(repr=False)
    expires_at: datetime


def mint(project: AgoraProject, version: TokenVersion, *, channel: str, uid: int) -> MintedToken:
    """Return a publisher's token for `uid` in `channel`, valid for one hour of real time.

    Raises:
        ValueError: if Agora does not accept the channel name or the uid.
    """
    if not CHANNEL_NAME.fullmatch(channel):
        raise ValueError(f"not a channel name that Agora accepts: {channel!r}")
    if not 1 <= uid <= MAX_UID:
        raise ValueError(f"not an Agora uid: {uid}")
    issued_at = int(time.time())
    lifetime = int(TOKEN_LIFETIME.total_seconds())
    salt = secrets.randbelow(99_999_999) + 1
    if version == "006":
        expiry = issued_at + lifetime
        token = pack_006(project, channel, str(uid), dict.fromkeys(PUBLISHER, expiry), salt=salt, ts=expiry)
    else:
        privileges: dict[int, int] = dict.fromkeys(PUBLISHER, lifetime)
        token = pack_007(
            project, channel, str(uid), privileges, salt=salt, issued_at=issued_at, lifetime=lifetime
        )
    return MintedToken(token, instant(issued_at + lifetime))


def pack_006(
    project: AgoraProject, channel: str, account: str, privileges: dict[int, int], *, salt: int, ts: int
) -> str:
    """Return an AccessToken. `account` is the uid in decimal. `ts` and the expiries are Unix seconds."""
    token = AccessToken(project.app_id, project.app_certificate, channel, account)
    token.salt = salt
    token.ts = ts
    for privilege, expiry in privileges.items():
        token.addPrivilege(privilege, expiry)
    return str(token.build())


def pack_007(
    project: AgoraProject,
    channel: str,
    account: str,
    privileges: dict[int, int],
    *,
    salt: int,
    issued_at: int,
    lifetime: int,
) -> str:
    """Return an AccessToken2. `account` is the uid in decimal.

    `issued_at` is in Unix seconds. `lifetime` and the privileges' values are seconds after `issued_at`.
    """
    content = _string(project.app_id.encode())
    content += struct.pack("<IIIHHH", issued_at, lifetime, salt, 1, RTC, len(privileges))
    content += b"".join(struct.pack("<HI", name, seconds) for name, seconds in sorted(privileges.items()))
    content += _string(channel.encode()) + _string(account.encode())
    key = hmac.digest(struct.pack("<I", issued_at), project.app_certificate.encode(), sha256)
    key = hmac.digest(struct.pack("<I", salt), key, sha256)
    signature = hmac.digest(key, content, sha256)
    return "007" + base64.b64encode(zlib.compress(_string(signature) + content)).decode("ascii")


def _string(value: bytes) -> bytes:
    return struct.pack("<H", len(value)) + value
