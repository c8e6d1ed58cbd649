"""Registration (DPS) apart from how it is asked for: who may register, and what is answered.

A device shows what its enrollment wants: a token signed with a key, or the certificate of a TLS connection.
MQTT asks by `gateway.provisioning`, HTTPS by `api.provisioning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import msgspec
from cryptography import x509

from vedette.hub.gateway.auth import NOBODY, Refused, read_token
from vedette.hub.gateway.certificates import current, leads, names, thumbprints
from vedette.hub.registry import AlreadyExists, Registry
from vedette.hub.registry.enrollments import Enrollment, Registration
from vedette.wire.iothub import Token, valid_id
from vedette.wire.packets import ConnectCode

RETRY_AFTER_S = 1
"""When the device shall ask for the outcome; it is there already."""

Answer = tuple[int, dict[str, Any]]
"""A status as in HTTP, and a body."""


class Applicant(msgspec.Struct, frozen=True):
    """What a device that registers says of itself; nothing is proven yet.

    token: None where the certificates of its connection, its own first, are the proof.
    """

    scope: str
    registration_id: str
    token: Token | None
    chain: Sequence[x509.Certificate] = ()


def applicant_of(
    scope: str, registration_id: str, password: bytes | None, chain: Sequence[x509.Certificate] = ()
) -> Applicant:
    """Raises Refused. Any id scope will do: devices keep the one they were made with."""
    if not valid_id(registration_id):
        raise Refused(ConnectCode.BAD_CREDENTIALS, "user name: does not name the registration id")
    if password is not None:
        return Applicant(scope, registration_id, read_token(password))
    if not chain:
        raise Refused(ConnectCode.BAD_CREDENTIALS, "password: missing, and no certificate")
    return Applicant(scope, registration_id, None, chain)


def admit(applicant: Applicant, candidates: Sequence[Enrollment], now: float) -> Enrollment:
    """The enrollment that the applicant's proof opens, at `now` (Unix seconds). Raises Refused."""
    if applicant.token is None:
        return _by_certificate(applicant, candidates, datetime.fromtimestamp(now, UTC))
    return _by_token(applicant, applicant.token, candidates, now)


def _by_token(applicant: Applicant, token: Token, candidates: Sequence[Enrollment], now: float) -> Enrollment:
    """Every candidate's keys are tried, and a stranger's, so that no answer comes sooner than another."""
    keyed = [one for one in candidates if not one.certificates]
    proven = [one for one in keyed if token.signed_by(one.device_keys(applicant.registration_id))]
    token.signed_by(NOBODY)
    enrollment = _enabled(proven, "registration: no enrollment has this key")
    wanted = f"{applicant.scope}/registrations/{applicant.registration_id}"
    if unquote(token.resource).lower() != wanted.lower():
        raise Refused(ConnectCode.NOT_AUTHORIZED, "token: made for something else")
    if token.expired(now):
        raise Refused(ConnectCode.NOT_AUTHORIZED, "token: expired")
    return enrollment


def _by_certificate(applicant: Applicant, candidates: Sequence[Enrollment], now: datetime) -> Enrollment:
    own = applicant.chain[0]
    if not names(own, applicant.registration_id):
        raise Refused(ConnectCode.NOT_AUTHORIZED, "certificate: does not name the registration id")
    proven = [one for one in candidates if _vouches(one, applicant.chain, now)]
    enrollment = _enabled(proven, "registration: no enrollment has this certificate")
    if not current(own, now):
        raise Refused(ConnectCode.NOT_AUTHORIZED, "certificate: expired")
    return enrollment


def _vouches(enrollment: Enrollment, chain: Sequence[x509.Certificate], now: datetime) -> bool:
    """True if the client's certificate is the enrollment's own or was issued under the group's."""
    registered = [x509.load_pem_x509_certificate(pem.encode()) for pem in enrollment.certificates]
    return leads(chain, registered, now) if enrollment.grouped else chain[0] in registered


def _enabled(proven: Sequence[Enrollment], otherwise: str) -> Enrollment:
    if not proven:
        raise Refused(ConnectCode.NOT_AUTHORIZED, otherwise)
    if not proven[0].enabled:
        raise Refused(ConnectCode.NOT_AUTHORIZED, "registration: enrollment is disabled")
    return proven[0]


def register(registry: Registry, enrollment: Enrollment, applicant: Applicant) -> Answer:
    """Make the device. We assign at once; "assigning", and to ask again, is the protocol's detour."""
    thumbprint = thumbprints(applicant.chain[0])[1] if applicant.chain else ""
    try:
        registration = registry.enrol(enrollment, applicant.registration_id, thumbprint)
    except AlreadyExists:
        return 409, {"errorCode": 409_001, "message": "a device of this id is there, not by registration"}
    return 202, {"operationId": _operation(registration), "status": "assigning"}


def outcome(registry: Registry, registration_id: str, host: str) -> Answer:
    """What became of a registration. host: the hub that its device is assigned to."""
    registration = registry.enrollments.registration(registration_id)
    if registration is None:
        return 404, {"errorCode": 404_002, "message": "no such operation"}
    state = {
        "registrationId": registration.registration_id,
        "createdDateTimeUtc": _time(registration.created),
        "assignedHub": host,
        "deviceId": registration.device_id,
        "status": "assigned",
        "substatus": "initialAssignment",
        "lastUpdatedDateTimeUtc": _time(registration.updated),
        "etag": registration.etag,
    }
    return 200, {"operationId": _operation(registration), "status": "assigned", "registrationState": state}


def _operation(registration: Registration) -> str:
    return f"4.{registration.etag}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
