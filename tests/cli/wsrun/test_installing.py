"""Libraries that are installed while ``flask wsrun`` runs, by pip itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from ...process import port_of, until
from ..apps import get, until_answered, write_app, wsrun

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="sends signals to process groups"
)


def write_wheel(directory: Path, name: str, version: str) -> Path:
    """A wheel with one module, which says its version."""
    title = f"{name}-{version}"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{title}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\n"
        f"Version: {version}\n",
        f"{title}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{title}.dist-info/RECORD"
    files[record] = "".join(f"{path},,\n" for path in (*files, record))
    wheel = directory / f"{title}-py3-none-any.whl"

    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)

    return wheel


def test_app_is_loaded_again_for_what_it_imports(tmp_path: Path) -> None:
    """A library that it lacked, and another version of one that it has: each is served
    once it is installed. That it has been removed is told at once. Others reload
    nothing.
    """
    purelib = sysconfig.get_path("purelib", "posix_prefix", {"base": str(tmp_path)})
    site_packages = Path(purelib)
    site_packages.mkdir(parents=True)
    project = tmp_path / "project"
    project.mkdir()
    app = write_app(
        project,
        more="import lacked\n\n@app.route('/v')\ndef v():\n    return lacked.version\n",
    )

    def install(name: str, version: str) -> None:
        wheel = write_wheel(tmp_path, name, version)
        options = ["--no-index", "--no-deps", "--disable-pip-version-check", "-q"]
        command = ["pip", "install", *options, "--prefix", str(tmp_path), str(wheel)]
        subprocess.run([sys.executable, "-m", *command], check=True)

    def unpack(name: str, version: str) -> None:
        with zipfile.ZipFile(write_wheel(tmp_path, name, version)) as archive:
            archive.extractall(site_packages)

    with wsrun(project, env={"PYTHONPATH": str(site_packages)}) as server:
        port = port_of(server)
        server.wait_for(r"could not be loaded \(ModuleNotFoundError\)")
        unpack("unrelated", "1.0")
        install("lacked", "1.0")
        server.wait_for(r"^ \* Detected installation of lacked 1\.0, reloading$")
        server.wait_for("Reloaded in")
        assert get(port, "/v") == (200, "1.0")
        unpack("unrelated", "2.0")
        (site_packages / "lacked.py").unlink()
        (site_packages / "lacked-1.0.dist-info" / "RECORD").unlink()
        install("lacked", "2.0")
        until_answered(port, "2.0", "/v")
        (site_packages / "unrelated.py").unlink()
        shutil.rmtree(site_packages / "unrelated-2.0.dist-info")
        app.write_text(app.read_text().replace("version 1", "version 2"))
        server.wait_for(r"Detected change in 'app\.py'")
        server.wait_for("Reloaded in")
        (site_packages / "lacked.py").unlink()

        for metadata in site_packages.glob("lacked-*"):
            shutil.rmtree(metadata)

        server.wait_for("Detected removal of lacked ")
        server.wait_for(r"could not be loaded \(ModuleNotFoundError\)")
        assert "unrelated" not in server.output
        assert server.output.count("Detected") == 4


def test_project_that_is_installed_as_a_link_is_found(tmp_path: Path) -> None:
    """As 'pip install -e' does it: with a path that only another process will know."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "linked.py").write_text("version = '1'\n")
    user_base = tmp_path / "user"
    scheme = sysconfig.get_preferred_scheme("user")
    purelib = sysconfig.get_path("purelib", scheme, {"userbase": str(user_base)})
    site_packages = Path(purelib)
    metadata = site_packages / "linked-1.dist-info"
    site_packages.mkdir(parents=True)
    project = tmp_path / "project"
    project.mkdir()
    write_app(
        project,
        more="import linked\n\n@app.route('/v')\ndef v():\n    return linked.version\n",
    )
    # Environments have no directory of the user's, but one that any process may add.
    startup = tmp_path / "startup"
    startup.mkdir()
    (startup / "sitecustomize.py").write_text(
        f"import site\nsite.addsitedir({str(site_packages)!r})\n"
    )

    with wsrun(project, env={"PYTHONPATH": str(startup)}) as server:
        port = port_of(server)
        server.wait_for(r"could not be loaded \(ModuleNotFoundError\)")
        (site_packages / "linked.pth").write_text(f"{library}\n")
        metadata.mkdir()
        (metadata / "METADATA").write_text("Name: linked\n")
        (metadata / "RECORD").write_text("linked.pth,,\nlinked-1.dist-info/RECORD,,\n")
        server.wait_for(r"Detected installation of linked 1, reloading")
        server.wait_for("Reloaded in")
        assert get(port, "/v") == (200, "1")
        # It is watched as all that is imported from outside.
        (library / "linked.py").write_text("version = '2'\n")
        until(lambda: get(port, "/v") == (200, "2"), "the edit")
