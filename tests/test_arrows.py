"""Arrows go one way: this table is the architecture, and the imports must agree with it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "vedette"

MAY_IMPORT = {
    "wire": {"wire"},
    "agent": {"agent", "wire"},
    "hub": {"hub", "wire"},
    "commands": {"commands", "agent", "hub", "wire"},
}
"""Package → packages of this project that it may import. `cli` may import all: it composes."""

AGENT_FLOW = [
    "losses",
    "redact",
    "settings",
    "sources",
    "baseline",
    "aggregate",
    "collectors",
    "meter",
    "roster",
    "schedule",
    "dialect",
    "classic",
    "governor",
    "heap",
    "budget",
    "outbox",
    "session",
    "link",
    "uplink",
    "app",
    "check",
]
"""Inside the agent a module imports from itself or from what stands before it."""

HUB_ONLY = {
    "OpenSSL",
    "cryptography",
    "deltalake",
    "duckdb",
    "fastapi",
    "nicegui",
    "flatbuffers",
    "httpcore",
    "ijson",
    "pyarrow",
    "rich",
    "sqlalchemy",
    "univers",
    "uvicorn",
    "websockets",
}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_packages_import_only_what_the_table_allows():
    """No import crosses from agent to hub or back, and the wire knows neither."""
    for package, allowed in MAY_IMPORT.items():
        for path in (SOURCE / package).rglob("*.py"):
            for name in imports(path):
                parts = name.split(".")
                if parts[0] == "vedette" and len(parts) > 1 and (SOURCE / parts[1]).is_dir():
                    assert parts[1] in allowed, f"{path.relative_to(SOURCE)} imports {name}"


def test_the_agent_imports_only_upstream():
    """`ls agent` reads as the pipeline: nothing imports from further down."""
    for path in (SOURCE / "agent").rglob("*.py"):
        own = path.relative_to(SOURCE / "agent").parts[0].removesuffix(".py")
        if own not in AGENT_FLOW:
            continue
        for name in imports(path):
            parts = name.split(".")
            if parts[:2] == ["vedette", "agent"] and len(parts) > 2 and parts[2] in AGENT_FLOW:
                assert AGENT_FLOW.index(parts[2]) <= AGENT_FLOW.index(own), f"{own} imports {name}"


@pytest.mark.parametrize("module", ["vedette.agent.app", "vedette.cli"])
def test_a_device_needs_no_hub_dependency(module: str):
    """The agent and the command line start where no dependency of the hub is installed."""
    code = f"import sys\nfor name in {sorted(HUB_ONLY)!r}: sys.modules[name] = None\nimport {module}"
    subprocess.run([sys.executable, "-c", code], check=True)
