"""Which directories lie on file systems that do not tell of all changes: those that are
made on another machine, or by another system.
"""

from __future__ import annotations

import os
import re
import typing as t

#: Mounted from another machine, or from the one that a virtual machine or a container
#: runs on: Windows' drives in WSL, VirtualBox, VMware, Parallels, Docker Desktop.
_TYPES = frozenset(
    {
        "9p",
        "afs",
        "ceph",
        "cifs",
        "drvfs",
        "fakeowner",
        "fuse",
        "grpcfuse",
        "nfs",
        "nfs4",
        "osxfs",
        "prl_fs",
        "smb3",
        "smbfs",
        "vboxsf",
        "virtiofs",
        "vmhgfs",
    }
)
#: The root of a container, which nobody edits from outside.
_ROOT_OF_CONTAINER = "fuse.fuse-overlayfs"

_MOUNTS = "/proc/self/mountinfo"


class Mount(t.NamedTuple):
    """A file system in its place."""

    #: The directory that it is mounted on.
    directory: str
    #: The type, as Linux names it.
    type: str

    @property
    def is_silent(self) -> bool:
        """Whether not all changes are told of."""
        if self.type == "overlay":
            # The lower layers of an overlay may be edited where they are themselves.
            # Below the root of a container they are an image.
            return self.directory != "/"

        return self.type in _TYPES or (
            self.type.startswith("fuse.") and self.type != _ROOT_OF_CONTAINER
        )


class Mounts:
    """The file systems that are mounted, none where the system has no list of them.

    :param text: the list, as in :manpage:`proc_pid_mountinfo(5)`.
    """

    def __init__(self, text: str) -> None:
        self._mounts: dict[str, Mount] = {}

        for line in text.splitlines():
            place, separator, source = line.partition(" - ")
            fields = place.split(" ")

            if separator and len(fields) > 4:
                directory = re.sub(
                    r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4]
                )
                # The last one hides those that were mounted there before.
                self._mounts[directory] = Mount(directory, source.split(" ")[0])

    @classmethod
    def of_this_process(cls) -> Mounts:
        """The file systems that this process sees."""
        try:
            with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
                return cls(file.read())
        except OSError:
            return cls("")

    def silent_one_of(self, directory: str) -> Mount | None:
        """The mount that a directory lies on, if it does not tell of all changes."""
        while directory not in self._mounts:
            parent = os.path.dirname(directory)

            if parent == directory:
                return None

            directory = parent

        mount = self._mounts[directory]
        return mount if mount.is_silent else None

    def silent_ones_below(self, directory: str) -> list[Mount]:
        """The mounts below a directory that do not tell of all changes."""
        prefix = os.path.join(directory, "")
        return [
            mount
            for mount in self._mounts.values()
            if mount.directory.startswith(prefix) and mount.is_silent
        ]
