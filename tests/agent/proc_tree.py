"""A /proc in a folder, with the files that are read of a process."""

from pathlib import Path


class ProcTree:
    """Processes that a test makes up. `path` goes where /proc would."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = str(folder)
        self.process(1, b"/sbin/init\0", started=1)

    def process(
        self,
        pid: int,
        arguments: bytes,
        *,
        ppid: int = 1,
        uid: int = 0,
        started: int = 100,
        flags: int = 0,
        executable: str = "/usr/bin/program",
        length: int | None = None,
    ) -> None:
        """Add a process, or change it."""
        folder = self._folder / str(pid)
        folder.mkdir(exist_ok=True)
        end = 4096 + (len(arguments) if length is None else length)
        fields = ["S", str(ppid), "0", "0", "0", "0", str(flags), *["0"] * 12, str(started), *["0"] * 25]
        (folder / "stat").write_text(f"{pid} (odd) name) {' '.join(fields)} 4096 {end} 0\n")
        (folder / "cmdline").write_bytes(arguments)
        (folder / "status").write_text(f"Name:\todd\nPid:\t{pid}\nPPid:\t{ppid}\nUid:\t{uid}\t0\t0\t0\n")
        link = folder / "exe"
        link.unlink(missing_ok=True)
        link.symlink_to(executable)

    def gone(self, pid: int) -> None:
        """Let a process end."""
        folder = self._folder / str(pid)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()

    def forked_last(self, pid: int) -> None:
        """What loadavg tells."""
        (self._folder / "loadavg").write_text(f"0.00 0.01 0.05 1/100 {pid}\n")
