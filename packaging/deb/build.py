#!/usr/bin/env python3
"""Builds the agent's Debian package: `packaging/deb/build.py [--arch arm64] [--out dist]`.

The package holds /usr/lib/vedette/VERSION: the agent without the hub, and its locked dependencies with the
extension modules for every Python of PYTHONS, side by side: their names carry interpreter and architecture.
Everything else in it is the same for all architectures. `packaging/deb/postinst` says how a version comes
into force. The result depends on the sources, the lock file and the interpreter that compiles the bytecode.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
SOURCE = ROOT / "src/vedette"

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
"""Interpreters that the extension modules are packed for: Debian 12 and 13, Ubuntu 24.04 and after."""

PLATFORMS = {"amd64": "manylinux2014_x86_64", "arm64": "manylinux2014_aarch64"}
"""Architectures that PyPI has extension modules for. `armhf` compiles those of the third, for one Python."""

DEVICE_COMMANDS = {"__init__", "agent", "baseline", "migrate", "sbom"}
"""The commands that a device carries; the others are the hub's."""

INTERPRETER = "/usr/bin/python3"
"""Debian's own, whose bytecode the package brings."""

MAINTAINER_SCRIPTS = ("preinst", "postinst", "prerm", "postrm")


def version() -> str:
    """The version of the source tree."""
    found = re.search(r'__version__ = "([^"]+)"', (SOURCE / "__init__.py").read_text())
    assert found, "the package names its version"
    return found[1]


def stage(root: Path, number: str, arch: str) -> None:
    """Lay out the files of the package below `root`."""
    site = root / "usr/lib/vedette" / number
    copy_agent(site / "vedette")
    if arch in PLATFORMS:
        unpack_wheels(site, PLATFORMS[arch])
    else:
        run(str(HERE / "armhf"), str(site))
    for unused in [*site.rglob("*.pyi"), *site.rglob("py.typed")]:
        unused.unlink()
    run("llvm-strip", "--strip-unneeded", *map(str, site.rglob("*.so")))
    compile_bytecode(root, site)
    install(HERE / "launcher", root / "usr/bin/vedette", 0o755)
    install(ROOT / "packaging/systemd/vedette.service", root / "lib/systemd/system/vedette.service")
    install(ROOT / "packaging/pam/hook", root / "usr/share/vedette/pam/hook", 0o755)
    install(ROOT / "packaging/pam/install.py", root / "usr/share/vedette/pam/install.py", 0o755)
    install(HERE / "lintian-overrides", root / "usr/share/lintian/overrides/vedette")
    document(root / "usr/share/doc/vedette", number)


def copy_agent(target: Path) -> None:
    """Wire, agent and the device's commands; of the eBPF programs the objects only."""

    def left_out(directory: str, names: list[str]) -> set[str]:
        inside = Path(directory).relative_to(SOURCE)
        if inside == Path():
            return {"hub", "__pycache__"}
        if inside == Path("commands"):
            return {name for name in names if name.removesuffix(".py") not in DEVICE_COMMANDS}
        if inside == Path("agent/bpf"):
            return {name for name in names if not name.endswith((".o", "__init__.py"))}
        return {"__pycache__"}

    shutil.copytree(SOURCE, target, ignore=left_out)


def unpack_wheels(site: Path, platform: str) -> None:
    """The locked dependencies, checked by their hashes; other interpreters add their extension modules."""
    for python in PYTHONS:
        with tempfile.TemporaryDirectory() as wheels:
            options = f"--only-binary=:all: --platform={platform} --python-version={python} --no-deps"
            lock = f"--require-hashes -r {ROOT / 'requirements/agent.lock'}"
            run(sys.executable, "-m", "pip", "download", "-qq", *options.split(), *lock.split(), "-d", wheels)
            for wheel in sorted(Path(wheels).glob("*.whl")):
                zipfile.ZipFile(wheel).extractall(site)


def compile_bytecode(root: Path, site: Path) -> None:
    """Unchecked: the package system keeps source and bytecode together, and no start looks at both."""
    run(
        INTERPRETER,
        "-m",
        "compileall",
        "-q",
        "--invalidation-mode=unchecked-hash",
        f"-s{root}",
        "-p/",
        str(site),
    )


def document(target: Path, number: str) -> None:
    """What Debian asks of every package, the manual pages of the other init systems, and the references."""
    install(ROOT / "README.md", target / "README.md")
    for other in ("openrc/vedette", "procd/vedette", "procd/capabilities.json"):
        install(ROOT / "packaging" / other, target / "init" / other)
    for page in ("settings.md", "events.md", "checks.md"):
        install(ROOT / "docs/reference" / page, target / "reference" / page)
    (target / "copyright").write_text((HERE / "copyright").read_text().replace("@VERSION@", number))
    changes = (
        f"vedette ({number}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n"
        " -- The Vedette maintainers <maintainers@vedette.invalid>  Thu, 01 Jan 2026 00:00:00 +0000\n"
    )
    for name, text in (("changelog.gz", changes), ("CHANGELOG.md.gz", (ROOT / "CHANGELOG.md").read_text())):
        (target / name).write_bytes(gzip.compress(text.encode(), mtime=0))


def install(source: Path, target: Path, mode: int = 0o644) -> None:
    """Copy one file, with a mode of its own."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def describe(root: Path, number: str, arch: str) -> None:
    """The control directory: what dpkg is told."""
    control = root / "DEBIAN"
    files = sorted(files_of(root))
    size = sum(-(-path.stat().st_size // 1024) for path in files)
    tag = subprocess.check_output(
        [INTERPRETER, "-c", "import sys; print(sys.implementation.cache_tag)"], text=True
    )
    words = {
        "@VERSION@": number,
        "@ARCH@": arch,
        "@SIZE@": str(size),
        "@TAG@": tag.strip(),
        "@BEYOND@": beyond(root),
    }
    control.mkdir(mode=0o755)
    for name in ("control", *MAINTAINER_SCRIPTS):
        text = (HERE / name).read_text()
        for word, value in words.items():
            text = text.replace(word, value)
        (control / name).write_text(text)
        (control / name).chmod(0o644 if name == "control" else 0o755)
    sums = (
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(root)}\n"
        for path in files
    )
    (control / "md5sums").write_text("".join(sums))


def beyond(root: Path) -> str:
    """The first Python that no extension module of the package is for."""
    tags = {match[1] for path in root.rglob("*.so") if (match := re.search(r"\.cpython-3(\d+)-", path.name))}
    return f"3.{max(map(int, tags)) + 1}"


def files_of(root: Path) -> Iterator[Path]:
    """Every file of the package."""
    return (path for path in root.rglob("*") if path.is_file() and "DEBIAN" not in path.parts)


def run(*command: str) -> None:
    """Run a program; it must succeed."""
    subprocess.run(command, check=True)


def build(arch: str, out: Path) -> Path:
    """Build one package; returns its path."""
    number = version()
    target = out / f"vedette_{number}_{arch}.deb"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vedette-deb-") as directory:
        root = Path(directory) / "root"
        root.mkdir(mode=0o755)
        stage(root, number, arch)
        for path in root.rglob("*"):
            runs = path.stat().st_mode & 0o111 and path.suffix != ".so"
            path.chmod(0o755 if path.is_dir() or runs else 0o644)
        describe(root, number, arch)
        run("dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(root), str(target))
    return target


def main() -> None:
    """The command line."""
    here = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--arch", default=here, choices=(*PLATFORMS, "armhf"))
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    os.umask(0o022)
    sys.stdout.write(f"{build(options.arch, options.out)}\n")


if __name__ == "__main__":
    main()
