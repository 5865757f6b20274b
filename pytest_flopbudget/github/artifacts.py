"""The legs that the measuring jobs of a run left behind, taken as hostile input.

Any job of the run can replace the artifact of another, and all of them ran the code of the
pull request. So an artifact is one file of one name, read in memory and never unpacked.
"""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pytest_flopbudget.core.errors import ReportError
from pytest_flopbudget.core.fields import Node
from pytest_flopbudget.core.legs import LEG_BYTES, Leg, check_leg_name, decode_leg
from pytest_flopbudget.github.rest import Client

PREFIX: Final = "flopbudget-"
MEMBER: Final = "flopbudget-leg.json"
ZIP_BYTES: Final = 8 * 1024 * 1024
MOST_LEGS: Final = 64
_ENCRYPTED: Final = 0x1
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""What GitHub's own uploads use; the others need no reading."""
_DAMAGED: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    IndexError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""What the standard library raises for archives that were written to break it.

NotImplementedError is zipfile's word for a method or a version that it does not read.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """What a run has under one name."""

    id: int
    name: str
    zip_bytes: int
    is_expired: bool

    @property
    def leg(self) -> str:
        """The name of the leg that it has to hold."""
        return self.name.removeprefix(PREFIX)


def leg_artifacts(
    client: Client, repository: str, run_id: int, *, expected: Sequence[str] = ()
) -> tuple[Artifact, ...]:
    """The artifacts of a run that hold legs, by name.

    expected: the legs that are asked for; all of them where it is empty.
    Of two with one name the newest is taken: a re-run uploads its legs beside those of the
    attempt before, and a leg that was not run again is still the one of that commit.
    Raises GitHubError.
    """
    path = f"/repos/{repository}/actions/runs/{run_id}/artifacts"
    newest: dict[str, Artifact] = {}
    for artifact in client.each(path, _artifact, key="artifacts"):
        if not artifact.name.startswith(PREFIX) or artifact.is_expired:
            continue
        if expected and artifact.leg not in expected:
            continue
        if artifact.name not in newest or newest[artifact.name].id < artifact.id:
            newest[artifact.name] = artifact
    return tuple(sorted(newest.values(), key=lambda artifact: artifact.name))


def download_leg(client: Client, repository: str, artifact: Artifact) -> Leg:
    """The leg in an artifact.

    Raises GitHubError: it cannot be had. Raises ReportError: it is not what it has to be.
    """
    where = f"artifact {artifact.name!r}"
    # The name is said to be a leg's, and comes from the run.
    name = check_leg_name(artifact.leg)
    if artifact.zip_bytes > ZIP_BYTES:
        raise ReportError(f"{where}: its archive is larger than {ZIP_BYTES} bytes")
    path = f"/repos/{repository}/actions/artifacts/{artifact.id}/zip"
    content = client.download(path, max_bytes=ZIP_BYTES)
    return decode_leg(read_member(content, where=where), where=where, name=name)


def read_member(content: bytes, *, where: str) -> bytes:
    """The one file of an artifact's archive.

    where: names the artifact in messages.
    Raises ReportError for an archive with anything else in it, or a damaged one.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            member = _only_member(archive.infolist(), where)
            with archive.open(member) as file:
                data = file.read(LEG_BYTES + 1)
    except _DAMAGED:
        damaged = True
    else:
        damaged = False
    if damaged:
        raise ReportError(f"{where}: its archive is damaged")
    if len(data) > LEG_BYTES:
        raise _too_large(where)
    return data


def _only_member(members: Sequence[zipfile.ZipInfo], where: str) -> zipfile.ZipInfo:
    if len(members) != 1:
        raise ReportError(f"{where}: holds {len(members)} files; it has to hold one, {MEMBER}")
    member = members[0]
    # The name as it is written: what stands behind a null character is not in `filename`.
    if member.orig_filename != MEMBER:
        raise ReportError(f"{where}: holds {member.orig_filename[:80]!r}, and not {MEMBER}")
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
        raise ReportError(f"{where}: {MEMBER} is no regular file")
    if member.flag_bits & _ENCRYPTED:
        raise ReportError(f"{where}: {MEMBER} is encrypted")
    if member.compress_type not in _METHODS:
        raise ReportError(f"{where}: {MEMBER} is compressed by a method that is not read")
    if member.file_size > LEG_BYTES:
        raise _too_large(where)
    return member


def _too_large(where: str) -> ReportError:
    return ReportError(f"{where}: {MEMBER} is larger than {LEG_BYTES} bytes")


def _artifact(node: Node) -> Artifact:
    return Artifact(
        id=node["id"].count(),
        name=node["name"].text(),
        zip_bytes=node["size_in_bytes"].count(),
        is_expired=node["expired"].flag(),
    )
