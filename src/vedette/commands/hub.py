"""`vedette hub`: make a hub's state, and run it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import msgspec

from vedette.commands import (
    UsageError,
    add_command,
    add_state,
    hub_simulate,
    hub_status,
    print_json,
    print_record,
)
from vedette.commands.state import opened, state_of

if TYPE_CHECKING:
    from vedette.hub.registry.hubs import Role
    from vedette.hub.settings import HubSettings, HubState

HTTPS_PORT = 443
"""The port that a host name alone means."""

_UNSAID = dict.fromkeys(("host", "retention_days", "retention", "registry", "lake", "lake_option", "proxy"))
"""Options of `init` that `vedette up` does not have."""

POLICIES = ("iothubowner", "service", "device", "registryRead", "registryReadWrite")
"""See `vedette.hub.registry.policies`, which a device does not carry."""

ROLES: tuple[Role, ...] = ("all", "gateway", "worker")


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the subcommand."""
    hub = add_command(subparsers, "hub", "make and run the hub that devices report to")
    actions = hub.add_subparsers(metavar="ACTION", required=True)

    init = add_command(
        actions,
        "init",
        "make a hub's state: settings, private authority, certificate, registry",
        "Repeating it changes the settings named and keeps the rest. Another host name renews the"
        " certificate, not the authority.",
        "  vedette hub init --host hub.example.org --host 192.0.2.10\n"
        "  vedette hub init --lake s3://events/fleet --lake-option aws_region=eu-west-1\n"
        "  vedette hub init --proxy 10.0.0.5",
    )
    init.add_argument(
        "--host",
        action="append",
        metavar="NAME",
        help="name or address that devices call the hub by; the first stands in connection strings"
        " (repeatable; default: localhost and 127.0.0.1)",
    )
    add_listening(init)
    init.add_argument(
        "--lake",
        metavar="URL",
        help="keep events in an object store: s3://bucket/prefix, az://container/prefix or gs://bucket/prefix,"
        " or in another directory (default: in the state directory); needs the extra [objects]",
    )
    init.add_argument(
        "--lake-option",
        action="append",
        type=pair,
        metavar="KEY=VALUE",
        help="what the object store's client is told, as aws_region=eu-west-1 (repeatable; keys are better"
        " kept in the environment: AWS_SECRET_ACCESS_KEY, AZURE_STORAGE_ACCOUNT_KEY, …)",
    )
    init.add_argument("--retention-days", type=int, metavar="N", help="days that rows of the lake are kept")
    init.add_argument(
        "--retention",
        action="append",
        type=pair,
        metavar="TABLE=DAYS",
        help="the same for one table: raw_events or dead_letters (repeatable)",
    )
    init.add_argument(
        "--registry",
        metavar="URL",
        help="keep identities and twins in PostgreSQL: postgresql://user:password@host/name"
        " (default: a file in the state directory)",
    )
    init.add_argument(
        "--proxy",
        action="append",
        metavar="ADDRESS",
        help="address or network of a load balancer in front of the hub, which has to begin each connection"
        " with the PROXY protocol, so that the hub knows devices by their own addresses; docs/scale.md"
        " (repeatable; none: no balancer; default: none)",
    )
    add_state(init)
    init.add_argument("--json", action="store_true", help="print JSON")
    init.set_defaults(run=_init)

    hub_status.add(actions)

    service = add_command(
        actions,
        "connection-string",
        "print the connection string (a secret) of a service or an operator",
        "The official service SDKs and their tools take it.",
        "  vedette hub connection-string --policy registryRead",
    )
    service.add_argument(
        "--policy",
        default="iothubowner",
        choices=POLICIES,
        help="what its holder may do (default: %(default)s, everything)",
    )
    add_state(service)
    service.set_defaults(run=_connection_string)

    run = add_command(
        actions,
        "run",
        "run the hub until SIGINT or SIGTERM",
        "Listens for MQTT over TLS and for HTTPS. Where one process is not enough, any number of gateways and"
        " workers share a registry (PostgreSQL) and a lake; see docs/scale.md.",
        "  vedette hub run --role gateway",
    )
    run.add_argument(
        "--role",
        choices=ROLES,
        default="all",
        help="gateway: what devices and people reach; worker: maintenance, detection, notifications, and"
        " only its health on the HTTPS port; all: both (default: %(default)s)",
    )
    run.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="how to log (default: %(default)s)"
    )
    add_listening(run)
    add_state(run)
    run.set_defaults(run=_run)

    hub_simulate.add(actions)


def add_listening(parser: argparse.ArgumentParser) -> None:
    """The options that say where a hub listens."""
    parser.add_argument("--bind", metavar="ADDRESS", help="address to listen on (default: all)")
    parser.add_argument("--mqtt-port", type=int, metavar="PORT", help="MQTT over TLS (default: 8883)")
    parser.add_argument("--https-port", type=int, metavar="PORT", help="HTTPS (default: 8443)")


def pair(text: str) -> tuple[str, str]:
    """KEY=VALUE as an argument. Raises ArgumentTypeError."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{key!r} lacks =VALUE")
    return key, value


def initialise(state: HubState, options: argparse.Namespace) -> HubSettings:
    """Make or update a hub's state. Raises HubError."""
    from vedette.hub.registry import Registry, RegistryError
    from vedette.hub.settings import HubError, HubSettings
    from vedette.hub.tls import ensure_pki

    state.make()
    if state.settings_file.exists():
        settings = state.load()
    else:
        settings = HubSettings(host_names=("localhost", "127.0.0.1", "::1"))
    options = argparse.Namespace(**_UNSAID | vars(options))
    given = {
        "host_names": tuple(options.host) if options.host else None,
        "bind": options.bind,
        "mqtt_port": options.mqtt_port,
        "https_port": options.https_port,
        "retention_days": options.retention_days,
        "registry": options.registry,
        "lake": options.lake,
        "lake_options": dict(options.lake_option) if options.lake_option else None,
        "retention": dict(options.retention) if options.retention else None,
        "proxies": [proxy for proxy in options.proxy if proxy != "none"] if options.proxy else None,
    }
    wanted = msgspec.to_builtins(settings) | {key: value for key, value in given.items() if value is not None}
    try:
        settings = msgspec.convert(wanted, HubSettings, strict=False)
    except msgspec.ValidationError as error:
        raise HubError(str(error)) from None
    if options.lake or options.lake_option:
        _try_lake(state, settings)
    state.save(settings)
    ensure_pki(state.pki, settings.host_names)
    try:
        Registry(state.registry_url).close()
    except RegistryError as error:
        raise HubError(str(error)) from None
    return settings


def _try_lake(state: HubState, settings: HubSettings) -> None:
    """Make the lake's tables, which shows that it can be reached and written. Raises HubError."""
    from vedette.hub.lake.errors import LakeFault
    from vedette.hub.lake.tables import open_tables
    from vedette.hub.settings import HubError

    try:
        open_tables(state.lake_of(settings))
    except LakeFault as error:
        raise HubError(str(error)) from None


def introduce_console(state: HubState, settings: HubSettings) -> None:
    """Print the console's address and, at the first start only, how to sign in."""
    from vedette.hub.detect.schema import Database
    from vedette.hub.registry.users import FIRST_USER, Users

    database = Database(state.registry_url)
    password = Users(database.read, database.write).ensure_admin()
    database.close()
    print(f"console    https://{settings.host_names[0]}:{settings.https_port}/console/")
    if password:
        print(f"           first sign-in: {FIRST_USER}, password {password} (shown once; you choose another)")
    sys.stdout.flush()


def _init(options: argparse.Namespace) -> int:
    from vedette.hub.settings import HubError

    state = state_of(options)
    try:
        settings = initialise(state, options)
    except HubError as error:
        raise UsageError(str(error)) from None
    shown = {"state": str(state.root), **msgspec.to_builtins(settings), "ca": str(state.pki / "ca.pem")}
    shown["lake"] = state.lake.uri
    shown["lake_options"] = sorted(settings.lake_options)  # their values may be secrets
    shown["registry"] = "elsewhere" if settings.registry else "here"  # its URL may hold a password
    if options.json:
        print_json(shown)
    else:
        print_record(shown)
        print(f"\nnext: vedette hub run --state {state.root}")
        print(f"then: vedette device add DEVICE --state {state.root}")
    return 0


def _connection_string(options: argparse.Namespace) -> int:
    with opened(options) as (settings, registry):
        policy = registry.policies.get(options.policy)
    assert policy is not None, "argparse has offered only names that there are"
    port = "" if settings.https_port == HTTPS_PORT else f":{settings.https_port}"
    print(
        f"HostName={settings.host_names[0]}{port};SharedAccessKeyName={policy.name};"
        f"SharedAccessKey={policy.primary_key}"
    )
    return 0


def _run(options: argparse.Namespace) -> int:
    from vedette.hub import app, logs
    from vedette.hub.registry import RegistryError
    from vedette.hub.settings import HubError

    if options.log_format == "json":
        logs.use_json()
    state = state_of(options)
    try:
        settings = state.load()
        listening = {
            name: value
            for name in ("bind", "mqtt_port", "https_port")
            if (value := getattr(options, name)) is not None
        }
        settings = msgspec.structs.replace(settings, **listening)
        if options.role != "worker":
            introduce_console(state, settings)
        app.run(state, settings, options.role)
    except (HubError, RegistryError) as error:
        raise UsageError(str(error)) from None
    return 0
