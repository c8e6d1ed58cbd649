"""A list of packages as the standard documents: CycloneDX 1.6 and SPDX 2.3, both in JSON.

Needs the extra `sbom` (cyclonedx-python-lib, spdx-tools), which is imported when a document is made: a
device that only reports its packages does not carry it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from io import StringIO
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from vedette import __version__
from vedette.wire.events import Package

if TYPE_CHECKING:
    from spdx_tools.spdx.model import Actor
    from spdx_tools.spdx.model import Package as SpdxPackage

NAMESPACE = "urn:uuid:"
"""SPDX wants a URI that no other document has; a UUID makes one without a web address."""

_CONTACT = re.compile(r"^(?P<name>[^<]*?)\s*<(?P<email>[^<>]+)>$")


class Subject(msgspec.Struct, frozen=True):
    """What a document speaks of. serial: different for every document. created: with a time zone."""

    device: str
    created: datetime
    serial: UUID


def cyclonedx(packages: Iterable[Package], subject: Subject) -> str:
    """A CycloneDX document. Raises ModuleNotFoundError where the extra `sbom` is not installed."""
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.contact import OrganizationalEntity
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion
    from packageurl import PackageURL

    device = Component(name=subject.device, type=ComponentType.DEVICE, bom_ref="device")
    agent = Component(name="vedette", type=ComponentType.APPLICATION, version=__version__, bom_ref="vedette")
    document = Bom(
        serial_number=subject.serial,
        metadata=BomMetaData(component=device, timestamp=subject.created),
        components=[
            Component(
                name=package.name,
                version=package.version or None,
                purl=PackageURL.from_string(package.purl),
                bom_ref=package.purl,
                supplier=OrganizationalEntity(name=package.vendor) if package.vendor else None,
            )
            for package in packages
        ],
    )
    document.metadata.tools.components.add(agent)
    document.register_dependency(device, document.components)
    return make_outputter(document, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)


def spdx(packages: Iterable[Package], subject: Subject) -> str:
    """An SPDX document. Raises ModuleNotFoundError where the extra `sbom` is not installed."""
    from spdx_tools.spdx.model import Actor, ActorType, CreationInfo, Document, Relationship, RelationshipType
    from spdx_tools.spdx.writer.json.json_writer import write_document_to_stream

    listed = [_spdx_package(package, number) for number, package in enumerate(packages, 1)]
    document = Document(
        creation_info=CreationInfo(
            spdx_version="SPDX-2.3",
            spdx_id="SPDXRef-DOCUMENT",
            name=subject.device,
            document_namespace=f"{NAMESPACE}{subject.serial}",
            creators=[Actor(ActorType.TOOL, f"vedette-{__version__}")],
            created=subject.created.replace(microsecond=0),
        ),
        packages=listed,
        relationships=[
            Relationship("SPDXRef-DOCUMENT", RelationshipType.DESCRIBES, package.spdx_id)
            for package in listed
        ],
    )
    stream = StringIO()
    write_document_to_stream(document, stream, validate=False)
    return stream.getvalue()


def _spdx_package(package: Package, number: int) -> SpdxPackage:
    from spdx_tools.spdx.model import (
        ExternalPackageRef,
        ExternalPackageRefCategory,
        SpdxNoAssertion,
    )
    from spdx_tools.spdx.model import Package as SpdxPackage

    return SpdxPackage(
        spdx_id=f"SPDXRef-Package-{number}",
        name=package.name,
        version=package.version or None,
        download_location=SpdxNoAssertion(),
        supplier=_supplier(package.vendor) if package.vendor else SpdxNoAssertion(),
        files_analyzed=False,
        source_info=f"built from the source package {package.source}" if package.source else None,
        external_references=[
            ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", package.purl)
        ],
    )


def _supplier(vendor: str) -> Actor:
    """`Name <mail>` as name and mail address."""
    from spdx_tools.spdx.model import Actor, ActorType

    contact = _CONTACT.match(vendor)
    if contact and contact["name"]:
        return Actor(ActorType.ORGANIZATION, contact["name"], contact["email"])
    return Actor(ActorType.ORGANIZATION, vendor.strip("<>"))


FORMATS: dict[str, Callable[[Iterable[Package], Subject], str]] = {"cyclonedx": cyclonedx, "spdx": spdx}
"""Documents by the name that the command line knows them by."""
