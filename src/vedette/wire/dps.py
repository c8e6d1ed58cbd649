"""The device provisioning dialect (DPS), the device's side: names, topics, keys. Pure; time passed in.

Facts: the service's public documentation and the official SDKs' behaviour.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import quote

from vedette.wire.iothub import TOKEN_TTL_S, decode_key, signature

ENDPOINT = "global.azure-devices-provisioning.net"
"""Where the public service answers; a hub of ours answers at its own name."""

API_VERSION = "2019-03-31"

RESPONSE = "$dps/registrations/res/"
REGISTER = "$dps/registrations/PUT/iotdps-register/"
ASK = "$dps/registrations/GET/iotdps-get-operationstatus/"


def username(scope: str, registration_id: str) -> str:
    """MQTT user name of a device that registers itself; there is no `?` in it."""
    return f"{scope}/registrations/{registration_id}/api-version={API_VERSION}&ClientVersion=vedette"


def make_token(scope: str, registration_id: str, key: str, *, now: float, ttl: float = TOKEN_TTL_S) -> str:
    """A SAS token for a registration; expiry is in whole Unix seconds."""
    resource = quote(f"{scope}/registrations/{registration_id}", safe="")
    expiry = str(int(now + ttl))
    signed = quote(signature(key, resource, expiry), safe="")
    return f"SharedAccessSignature sr={resource}&sig={signed}&se={expiry}&skn=registration"


def device_key(group_key: str, registration_id: str) -> str:
    """The key of one device of a group, base64. Raises DialectError if the group's is not base64."""
    digest = hmac.new(decode_key(group_key), registration_id.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()
