"""Build the sdist and the wheel of what is committed, and verify them: ``make dist``.

Each is built twice, from two clones, and must come out the same to the byte. Their contents are compared with what they
should be, and the wheel is installed on its own and tried. They are left in ``dist/``.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYTHON = sys.executable
#: What must be in the wheel besides the package.
IN_THE_WHEEL = (".dist-info/licenses/LICENSE", ".dist-info/entry_points.txt", ".dist-info/METADATA")
TRIAL = """
import re, subprocess, sys
from importlib.metadata import version
import tokenguard
assert version("wsgi-tokenguard") == tokenguard.__version__
assert "site-packages" in tokenguard.__file__, tokenguard.__file__
key = subprocess.run([sys.argv[1], "genkey"], check=True, capture_output=True, text=True).stdout.strip()
store, tokens = tokenguard.MemoryStore(), tokenguard.TokenFormat(tokenguard.SigningKeys(key))
issuer = tokenguard.Issuer(store, tokens)
issuer.register("billing", "users:read", actor="trial")
text = issuer.issue("billing", "users:read", actor="trial").text
assert tokenguard.Guard(store, tokens).authenticate(text).client_name == "billing"
"""


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a command and return what it prints; exit if it fails."""
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def build(folder: Path, epoch: int) -> list[Path]:
    """Build the sdist, and the wheel from it, and return both."""
    clone = folder / "clone"
    run("git", "clone", "--quiet", ROOT, clone)
    (clone / "MANIFEST.in").write_text("".join(f"include {name}\n" for name in tracked()))
    run(PYTHON, "-m", "build", "--no-isolation", "--sdist", "--outdir", folder / "built", clone)
    (sdist,) = (folder / "built").iterdir()
    same_everywhere(sdist, epoch)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    source = folder / sdist.name.removesuffix(".tar.gz")
    run(PYTHON, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder / "built", source)
    return sorted((folder / "built").iterdir())


def tracked() -> list[str]:
    """Return the committed files. All of them are in the sdist, since those who repackage it need the tests."""
    return run("git", "ls-tree", "-r", "--name-only", "HEAD").splitlines()


def same_everywhere(sdist: Path, epoch: int) -> None:
    """Rewrite the sdist without the times, owners and modes of this machine, which setuptools leaves in it."""
    plain = io.BytesIO()
    with tarfile.open(sdist) as given, tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as made:
        for member in sorted(given.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.mode, member.pax_headers = 0o755 if member.isdir() or member.mode & 0o100 else 0o644, {}
            made.addfile(member, given.extractfile(member) if member.isfile() else None)
    with sdist.open("wb") as file, gzip.GzipFile("", "wb", 9, file, epoch) as packed:
        packed.write(plain.getvalue())


def check_contents(sdist: Path, wheel: Path) -> None:
    """Exit with a list of the files that are missing, and of those that do not belong there."""
    with tarfile.open(sdist) as archive:
        packed = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    inside = zipfile.ZipFile(wheel).namelist()
    wrong = [f"not in the sdist: {name}" for name in tracked() if name not in packed]
    package = [name for name in tracked() if name.startswith("tokenguard/")]
    wrong += [f"not in the wheel: {name}" for name in package if name not in inside]
    wrong += [f"not in the wheel: {name}" for name in IN_THE_WHEEL if not any(each.endswith(name) for each in inside)]
    wrong += [f"in the wheel: {name}" for name in inside if not re.match(r"tokenguard/|[\w.-]+\.dist-info/", name)]
    if wrong:
        sys.exit("\n".join(wrong))


def try_out(wheel: Path, folder: Path) -> None:
    """Install the wheel where nothing else is: with its two dependencies, and then with the command."""
    run(PYTHON, "-m", "venv", folder)
    pip: list[str | Path] = [
        folder / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    run(*pip, wheel)
    run(folder / "bin" / "python", "-c", "import tokenguard", cwd=folder)
    run(*pip, f"{wheel}[cli]")
    run(folder / "bin" / "python", "-c", TRIAL, folder / "bin" / "tokenguard", cwd=folder)


def main() -> None:
    """Leave both in ``dist/``, and print their hashes."""
    os.umask(0o022)  # the wheel has the modes of the files that the build creates
    epoch = int(os.environ.setdefault("SOURCE_DATE_EPOCH", run("git", "log", "-1", "--format=%ct").strip()))
    with tempfile.TemporaryDirectory() as name:
        first, second = Path(name, "first"), Path(name, "another-one")
        built, again = build(first, epoch), build(second, epoch)
        for one, other in zip(built, again, strict=True):
            if one.read_bytes() != other.read_bytes():
                sys.exit(f"{one.name} came out in two ways")
        wheel, sdist = sorted(built, key=lambda path: path.suffix, reverse=True)
        run(PYTHON, "-m", "twine", "check", "--strict", *built)
        run(Path(PYTHON).parent / "check-wheel-contents", wheel)
        check_contents(sdist, wheel)
        try_out(wheel, Path(name, "trial"))
        shutil.rmtree(ROOT / "dist", ignore_errors=True)
        shutil.copytree(first / "built", ROOT / "dist")
    for path in sorted((ROOT / "dist").iterdir()):
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")


if __name__ == "__main__":
    main()
