"""Where a SQLite file can't lie: its write-ahead log needs memory that all its users share."""

from __future__ import annotations

import re
from pathlib import Path

_SHARED = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|lustre|gpfs|beegfs|ceph|glusterfs|9p|afs|ocfs2|gfs2|virtiofs"
    r"|fuse\.(sshfs|glusterfs|ceph.*|juicefs|s3fs|gcsfuse|mount-s3|blobfuse2?|weka.*|lustre.*)"
)
_MOUNTS = Path("/proc/self/mountinfo")


def network_file_system(path: Path, *, mounts: Path = _MOUNTS) -> str:
    """The kind of network file system that ``path`` lies on; empty for a local one, or if unknown."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    real = path.resolve()
    for line in lines:
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        # mountinfo writes space, tab, newline and backslash as \ooo.
        mount = Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields[4]))
        if len(mount.parts) >= best and real.is_relative_to(mount):
            best, kind = len(mount.parts), right.split(" ")[0]
    return kind if _SHARED.fullmatch(kind) else ""
