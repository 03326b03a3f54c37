"""The text diff of changes, made by the host's git in an empty repository.

Both sides become trees there, so nothing of any work tree (attributes, filters, configuration) decides what is shown.
"""

from collections.abc import Iterable, Sequence

from swe_aem.grading.delta import Blob, Change, Delta
from swe_aem.grading.host_git import HostGit, HostGitTimeout, host_git

_DIFF = (
    "diff-tree", "-r", "-p", "--binary", "--full-index", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv",
    "--src-prefix=a/", "--dst-prefix=b/", "refs/heads/old", "refs/heads/new",
)  # fmt: skip
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+=,@%")


def diff_text(changes: Sequence[Change]) -> str:
    """A diff that `git apply` reads: each path a section of its own, without renames. Always valid text.

    A file whose old or new content is not UTF-8 becomes a binary section. Raises `UserError` without git on the host.
    """
    if not changes:
        return ""
    with host_git() as git:
        _make_trees(git, changes)
        binary = [change.path for change in changes if not (_is_text(change.old) and _is_text(change.new))]
        _show_as_binary(git, binary)
        try:
            text = git(*_DIFF)
        except HostGitTimeout:  # content that a line diff takes too long for
            (git.git_dir / "info" / "attributes").write_text("* -diff\n")
            text = git(*_DIFF)
    # What can be cut inside a character is only what git shows behind the line numbers of a hunk.
    return text.decode("utf-8", "replace")


def render_delta(changes: Sequence[Change], left_out: Sequence[str] = ()) -> Delta:
    """The delta of `changes`, with its text. Runs the host's git; raises `UserError` where there is none."""
    ordered = tuple(sorted(changes, key=lambda change: change.path))
    return Delta(ordered, tuple(left_out), diff_text(ordered))


def _is_text(blob: Blob | None) -> bool:
    if blob is None:
        return True
    try:
        blob.content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _make_trees(git: HostGit, changes: Sequence[Change]) -> None:
    stream = bytearray()
    for name, blobs in (
        ("old", [(change.path, change.old) for change in changes]),
        ("new", [(change.path, change.new) for change in changes]),
    ):
        stream += b"commit refs/heads/%s\ncommitter x <x@x> 0 +0000\ndata 0\n" % name.encode()
        for path, blob in blobs:
            if blob is not None:
                stream += b"M %o inline %s\ndata %d\n" % (blob.mode, _quoted(path), len(blob.content))
                stream += blob.content + b"\n"
    git("fast-import", "--quiet", "--done", data=bytes(stream) + b"done\n")


def _quoted(path: str) -> bytes:
    data = path.encode("utf-8", "surrogateescape")
    return b'"' + b"".join(bytes([byte]) if byte in _PLAIN else b"\\%03o" % byte for byte in data) + b'"'


def _show_as_binary(git: HostGit, paths: Iterable[str]) -> None:
    """Attributes for `paths`; a byte that has a meaning in a pattern becomes `?`, so others may be shown alike."""
    patterns = (
        "".join(chr(byte) if byte in _PLAIN else "?" for byte in path.encode("utf-8", "surrogateescape"))
        for path in paths
    )
    lines = "".join(f"/{pattern} -diff\n" for pattern in patterns)
    (git.git_dir / "info" / "attributes").write_text(lines)
