"""Merging layers in memory, as an engine merges them on a disk, and writing the result as one tar stream.

Nothing of a layer is ever a path on this host: names live in a tree of this module until the stream is written. In that
stream each path occurs once, below directories that came before it, with no `..`; so whoever unpacks it stays inside.
"""

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field

from swe_aem.sandbox.images.failures import PullError
from swe_aem.sandbox.images.pack.layer_archive import Layer, Progress, open_layer
from swe_aem.sandbox.images.pack.manifest import malformed

MAX_CONTENT_BYTES = 1 << 40
"""Content of all files that the layers of one image may announce together."""
MAX_ENTRIES = 2_000_000
_MAX_PATH_BYTES, _MAX_NAME_BYTES = 4000, 255
_MAX_LINKS = 40
"""Links followed on the way to one name, as the kernel limits them."""
_WHITEOUT, _OPAQUE, _RESERVED = ".wh.", ".wh..wh..opq", ".wh..wh."
_ATTRIBUTE = "SCHILY.xattr."
_CHUNK_BYTES = 1 << 20
_OVERLAY_ATTRIBUTES = "user.overlay."
_PLAIN = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
_UINT32 = (1 << 32) - 1
_MAX_MAJOR, _MAX_MINOR = (1 << 12) - 1, (1 << 20) - 1


@dataclass(slots=True, eq=False)
class Node:
    """A name and what it stands for: a file, directory, link or device. Names of one file have the same source."""

    header: tarfile.TarInfo
    layer: int
    """The layer that brought the name; of a directory, the last one that brought it or something below it."""
    source: tuple[int, int] | None = None
    """Layer and place in it where its content is."""
    content: bytes = b""
    """Its content, where it comes from no layer."""
    children: dict[str, "Node"] = field(default_factory=dict)

    @property
    def is_dir(self) -> bool:
        """Is it a directory?"""
        return self.header.isdir()


class MergedImage:
    """The root file system of an image, as its layers and some files of our own make it."""

    def __init__(
        self, layers: Sequence[Layer], own_files: Mapping[str, bytes], progress: Progress | None = None
    ) -> None:
        """Read every layer's headers; raises `PullError` if one is not what it must be.

        `own_files` are placed at the top, whatever the image has there. `progress` counts what is read, here and later.
        """
        self._layers = layers
        self._progress = progress or Progress()
        self._root = Node(_DIRECTORY, layer=-1)
        self._entries = self.content_bytes = 0
        for number, layer in enumerate(layers):
            with open_layer(layer, self._progress, check=True) as members:
                for place, (_, member) in enumerate(members):
                    try:
                        self._take(number, place, member, whiteouts=layer.whiteouts)
                    except PullError as error:
                        raise malformed(f"layer {layer.name}: {error.said}") from None
        for name, content in own_files.items():
            header = _header(tarfile.REGTYPE, 0o644)
            header.size = len(content)
            self._root.children[name] = Node(header, layer=len(layers), content=content)

    def __contains__(self, path: str) -> bool:
        """Is there anything of that path? Links are not followed."""
        node: Node | None = self._root
        for part in path.strip("/").split("/"):
            node = node.children.get(part) if node is not None else None
        return node is not None

    def tar(self) -> Iterator[bytes]:
        """The tar stream; raises `PullError` if a layer cannot be read. Directories come first, above before below."""
        wanted: dict[tuple[int, int], list[tuple[str, Node]]] = {}
        for path, node in self._walk():
            if node.is_dir or node.source is None:
                yield from _written(path, node, node.content)
            else:
                wanted.setdefault(node.source, []).append((path, node))
        for number, layer in enumerate(self._layers):
            with open_layer(layer, self._progress, check=False) as members:
                for place, (archive, member) in enumerate(members):
                    if (number, place) in wanted:
                        yield from _written_with_names(wanted[number, place], archive, member)
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _walk(self) -> Iterator[tuple[str, Node]]:
        """Every path but the root, a directory before what is in it."""
        left = [("", self._root)]
        while left:
            above, directory = left.pop()
            for name, node in directory.children.items():
                yield above + name, node
                if node.is_dir:
                    left.append((f"{above}{name}/", node))

    # -- one member ----------------------------------------------------------------------------------------------------

    def _take(self, layer: int, place: int, member: tarfile.TarInfo, *, whiteouts: bool) -> None:
        parts = _parts(member.name)
        if not parts:  # the root itself
            return
        self._count(max(0, member.size) if _has_content(member) else 0)
        *above, name = parts
        if whiteouts and name.startswith(_WHITEOUT):
            self._white_out(layer, above, name)
        elif not (member.ischr() and (member.devmajor, member.devminor) == (0, 0)):  # a whiteout of overlays
            self._place(layer, place, member, above, name)

    def _count(self, size_bytes: int) -> None:
        """One more entry; raises `PullError` if there are more than any honest image has."""
        self._entries += 1
        self.content_bytes += size_bytes
        if self._entries > MAX_ENTRIES:
            raise malformed(f"it has more than {MAX_ENTRIES} entries")
        if self.content_bytes > MAX_CONTENT_BYTES:
            raise malformed(f"its files have more than {MAX_CONTENT_BYTES >> 30} GiB")

    def _place(self, layer: int, place: int, member: tarfile.TarInfo, above: Sequence[str], name: str) -> None:
        parent = self._directory(above, layer)
        before = parent.children.get(name)
        if member.islnk():
            target = self._target(member, layer)
            if target is not before:
                parent.children[name] = Node(target.header, layer, target.source)
            return
        node = Node(_copied(member), layer)
        if node.is_dir and before is not None and before.is_dir:
            node.children = before.children
        if _has_content(member):
            node.source = (layer, place)
        parent.children[name] = node

    def _target(self, member: tarfile.TarInfo, layer: int) -> Node:
        """What a hard link names; raises `PullError` if that is nothing, or a directory."""
        parts = _parts(member.linkname)
        node = self._directory(parts[:-1], layer).children.get(parts[-1]) if parts else None
        if node is None or node.is_dir:
            raise malformed(f"{member.name!r} is a hard link to {member.linkname!r}, which is no file of the image")
        return node

    def _directory(self, parts: Sequence[str], layer: int) -> Node:
        """The directory of that path, made where it is missing; what is no directory is replaced by one.

        A link that this layer made leads on, within the image. One of a layer below is replaced: engines unpack each
        layer apart, so they do not see it.
        """
        left, path, links = list(reversed(parts)), [self._root], 0
        while left:
            name = left.pop()
            if name == "..":
                path = path[:-1] or [self._root]
                continue
            here = path[-1]
            child = here.children.get(name)
            if child is not None and child.header.issym() and child.layer == layer:
                links += 1
                if links > _MAX_LINKS:
                    raise malformed(f"too many links on the way to {'/'.join(parts)!r}")
                if child.header.linkname.startswith("/"):
                    path = [self._root]
                left += [part for part in reversed(child.header.linkname.split("/")) if part not in ("", ".")]
                continue
            if child is None or not child.is_dir:
                self._count(0)
                child = here.children[name] = Node(_DIRECTORY, layer)
            child.layer = layer
            path.append(child)
            if len(path) > _MAX_PATH_BYTES // 2:
                raise malformed(f"{'/'.join(parts)[:100]!r} lies too deep")
        return path[-1]

    def _white_out(self, layer: int, above: Sequence[str], name: str) -> None:
        if name == _OPAQUE:
            _hide_below(self._directory(above, layer), layer)
            return
        if name.startswith(_RESERVED):  # aufs kept files of its own under such names
            return
        hidden = name.removeprefix(_WHITEOUT)
        if hidden in ("", ".", ".."):
            raise malformed(f"{'/'.join([*above, name])!r} removes no name that a file can have")
        parent = self._directory(above, layer)
        if (node := parent.children.get(hidden)) is None:
            return
        if node.layer < layer:
            del parent.children[hidden]
        elif node.is_dir:
            _hide_below(node, layer)


def _hide_below(directory: Node, layer: int) -> None:
    """Remove from a directory, and from those in it, what this layer did not bring."""
    left = [directory]
    while left:
        node = left.pop()
        node.children = {name: child for name, child in node.children.items() if child.layer >= layer}
        left += [child for child in node.children.values() if child.is_dir]


def _parts(name: str) -> list[str]:
    """The components of a path in a layer; raises `PullError` if it leads out of the image or is too long."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                raise malformed(f"{name[:100]!r} leads out of the image")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    sizes = [len(part.encode("utf-8", "surrogateescape")) for part in parts]
    if "\0" in name or max(sizes, default=0) > _MAX_NAME_BYTES or sum(sizes) + len(sizes) > _MAX_PATH_BYTES:
        raise malformed(f"{name[:100]!r} is no name that a file can have")
    return parts


def _has_content(member: tarfile.TarInfo) -> bool:
    """Is it a file? Types that nobody knows are files, as for every program that reads archives."""
    return member.type not in _PLAIN


# -- writing ----------------------------------------------------------------------------------------------------------


def _written_with_names(
    names: Sequence[tuple[str, Node]], archive: tarfile.TarFile, member: tarfile.TarInfo
) -> Iterator[bytes]:
    """A file with its content under its first name, and hard links to that under the others."""
    (first, node), *others = names
    yield _headed(first, node.header)
    content = archive.extractfile(member)
    left = node.header.size
    while left > 0:
        chunk = content.read(min(left, _CHUNK_BYTES)) if content is not None else b""
        if not chunk:
            raise malformed(f"the content of {first!r} ends early")
        left -= len(chunk)
        yield chunk
    yield bytes(-node.header.size % tarfile.BLOCKSIZE)
    for path, _ in others:
        link = _header(tarfile.LNKTYPE, node.header.mode)
        link.linkname = first
        yield _headed(path, link)


def _written(path: str, node: Node, content: bytes) -> Iterator[bytes]:
    yield _headed(path, node.header)
    if content:
        yield content + bytes(-len(content) % tarfile.BLOCKSIZE)


def _headed(path: str, header: tarfile.TarInfo) -> bytes:
    header = copy(header)
    header.name = path
    kind = tarfile.PAX_FORMAT if header.pax_headers else tarfile.GNU_FORMAT
    return header.tobuf(kind, "utf-8", "surrogateescape")


def _copied(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A header of our own with what counts of a member's: no sparse maps, no attributes that an overlay would obey."""
    header = _header(tarfile.REGTYPE if _has_content(member) else member.type, member.mode & 0o7777)
    header.uid, header.gid = (min(max(0, number), _UINT32) for number in (member.uid, member.gid))
    header.mtime = min(max(0, int(member.mtime)), _UINT32)
    header.size = max(0, member.size) if _has_content(member) else 0
    header.linkname = member.linkname if member.issym() else ""
    if member.ischr() or member.isblk():
        header.devmajor, header.devminor = member.devmajor, member.devminor
        if not (0 <= member.devmajor <= _MAX_MAJOR and 0 <= member.devminor <= _MAX_MINOR):
            raise malformed(f"{member.name!r} is a device with a number that no kernel has")
    header.pax_headers = {key: value for key, value in member.pax_headers.items() if _is_kept(key)}
    if header.issym() and not 0 < len(header.linkname.encode("utf-8", "surrogateescape")) <= _MAX_PATH_BYTES:
        raise malformed(f"{member.name!r} is a link to nowhere")
    return header


def _is_kept(key: str) -> bool:
    name = key.removeprefix(_ATTRIBUTE)
    user = name.startswith("user.") and not name.startswith(_OVERLAY_ATTRIBUTES) and name.isprintable()
    return key.startswith(_ATTRIBUTE) and (user or name == "security.capability")


def _header(kind: bytes, mode: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo()
    header.type, header.mode = kind, mode
    return header


_DIRECTORY = _header(tarfile.DIRTYPE, 0o755)
"""The header of a directory that a layer needs and does not describe."""
