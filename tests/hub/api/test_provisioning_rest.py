"""Registration (DPS) over HTTPS, request by request."""

import base64
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

from certificates import issue
from gateway_rig import HOST, ROOMY
from service_rig import ServiceRig, serving
from vedette.hub.registry.enrollments import Enrollment
from vedette.wire import dps
from vedette.wire.iothub import Identity

SCOPE, ID = "0ne1", "pump-17"
PLACE = f"/{SCOPE}/registrations/{ID}"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServiceRig]:
    async with serving(tmp_path) as made:
        yield made


def token(key: str, scope: str = SCOPE) -> str:
    return dps.make_token(scope, ID, key, now=time.time())


async def test_a_device_registers_asks_and_is_told(hub: ServiceRig):
    """202 with the pause, then the outcome, by operation and by itself."""
    group = hub.registry.enrollments.add(Enrollment("pumps", grouped=True))
    shown = token(dps.device_key(group.primary_key, ID))
    early = await hub.ask("GET", f"{PLACE}/operations/x", token=shown)
    assert (early.status_code, early.json()["errorCode"]) == (404, 404002)
    told = await hub.ask("PUT", f"{PLACE}/register", {"registrationId": ID}, token=shown)
    assert (told.status_code, told.headers["retry-after"], told.json()["status"]) == (202, "1", "assigning")
    done = await hub.ask("GET", f"{PLACE}/operations/{told.json()['operationId']}", token=shown)
    state = done.json()["registrationState"]
    assert (done.status_code, state["assignedHub"], state["deviceId"]) == (200, HOST, ID)
    assert (await hub.ask("POST", PLACE, {}, token=shown)).json() == state


async def test_who_has_no_key_is_told_nothing(hub: ServiceRig):
    """The same answer whatever is wrong, and no device."""
    own = hub.registry.enrollments.add(Enrollment(ID, grouped=False))
    for wrong in ("", "nonsense", token("aHVudGVyMg=="), token(own.primary_key, "another")):
        for method, path in (("PUT", "/register"), ("GET", "/operations/x"), ("POST", "")):
            refused = await hub.ask(method, PLACE + path, token=wrong)
            assert (refused.status_code, refused.json()["message"]) == (401, "Unauthorized")
    assert hub.registry.get(Identity(ID)) is None


async def test_a_certificate_s_enrollment_opens_to_no_key(hub: ServiceRig):
    """Its keys are empty, and nobody proves that he knows none."""
    hub.registry.enrollments.add(Enrollment(ID, grouped=False, certificates=(issue(ID).pem.decode(),)))
    resource, expiry = quote(f"{SCOPE}/registrations/{ID}", safe=""), str(int(time.time()) + 60)
    digest = hmac.new(b"", f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    signed = quote(base64.b64encode(digest), safe="")
    empty = f"SharedAccessSignature sr={resource}&sig={signed}&se={expiry}&skn=registration"
    assert (await hub.ask("PUT", f"{PLACE}/register", token=empty)).status_code == 401


async def test_registrations_are_paced(tmp_path: Path):
    """Strangers' too, since each is held against every enrollment; the device is told when to come again."""
    limits = msgspec.structs.replace(ROOMY, requests_per_second=0.1, request_burst=1)
    async with serving(tmp_path, limits) as hub:
        first, second = [await hub.ask("PUT", f"{PLACE}/register", token="nonsense") for _ in range(2)]
        assert (first.status_code, second.status_code) == (401, 429)
        assert second.headers["retry-after"] == "1"
