"""Which file systems are polled."""

from __future__ import annotations

import sys

import pytest

from flask_sockets_cli.watch.mounts import Mount, Mounts

LIST = r"""
20 1 0:20 / / rw,relatime - overlay overlay rw,lowerdir=/image,upperdir=/container
21 20 0:21 / /mnt/c rw,noatime shared:1 - 9p C:\134 rw,dirsync,aname=drvfs;path=C:\
22 20 0:22 / /mnt/my\040files rw - nfs4 server:/files rw
23 20 8:1 / /home rw - ext4 /dev/sda1 rw
24 23 0:24 / /home/me/shared rw - fuse.sshfs me@host: rw
25 23 0:25 / /home/me/layers rw - overlay overlay rw,lowerdir=/home/me/lower
26 23 0:26 / /home/me/disk rw - nfs server:/disk rw
27 26 8:2 / /home/me/disk rw - ext4 /dev/sdb1 rw
28 23 8:3 / /home/me/usb rw - fuseblk /dev/sdc1 rw
""".strip()


@pytest.mark.parametrize(
    ("directory", "mount"),
    [
        ("/srv/app", None),
        ("/home/me/app", None),
        ("/mnt/c/app", Mount("/mnt/c", "9p")),
        ("/mnt/my files", Mount("/mnt/my files", "nfs4")),
        ("/home/me/shared/deep/app", Mount("/home/me/shared", "fuse.sshfs")),
        ("/home/me/layers", Mount("/home/me/layers", "overlay")),
        ("/home/me/layers2", None),
        ("/home/me/disk", None),
        ("/home/me/usb", None),
    ],
)
def test_mount_of_a_directory(directory: str, mount: Mount | None) -> None:
    """The nearest one counts, and the last one in the same place. The overlay that is
    a container's root is like any disk.
    """
    assert Mounts(LIST).silent_one_of(directory) == mount


def test_mounts_below_a_directory() -> None:
    """A project may have some inside."""
    found = {mount.directory for mount in Mounts(LIST).silent_ones_below("/home/me")}
    assert found == {"/home/me/shared", "/home/me/layers"}
    assert Mounts(LIST).silent_ones_below("/home/me/app") == []


def test_nothing_is_known_without_a_list() -> None:
    """As on other systems than Linux."""
    assert Mounts("").silent_one_of("/srv/app") is None


@pytest.mark.skipif(sys.platform != "linux", reason="a list of Linux'")
def test_list_of_this_process_can_be_read() -> None:
    """It has its own file system of processes in it, which nobody would watch."""
    assert "/proc" in repr(Mounts.of_this_process().__dict__)
