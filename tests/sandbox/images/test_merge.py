"""Layers merged without an engine: what is in the result, and that hostile layers stay inside of it."""

import gzip
import io
import itertools
import os
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from swe_aem.sandbox.images.failures import PullError, PullFailure
from swe_aem.sandbox.images.pack import layer_archive, merge
from swe_aem.sandbox.images.pack.layer_archive import Layer
from swe_aem.sandbox.images.pack.merge import MergedImage
from tests.sandbox.images.pushed import Member, archive, digest, file, folder, hard_link, link, made

OPAQUE = ".wh..wh..opq"


@pytest.fixture
def merged(tmp_path: Path) -> Any:
    """Merges layers, each a list of members, and returns path to (header, content) of the resulting archive."""
    numbers = itertools.count()

    def merge_layers(*layers: Sequence[Member], **how: Any) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
        found = []
        for members in layers:
            path = tmp_path / f"layer-{next(numbers)}"
            plain = archive(members)
            path.write_bytes(plain)
            found.append(Layer(path, path.name, digest(plain), **how))
        return read(b"".join(MergedImage(found, {"own": b"ours"}).tar()))

    return merge_layers


def read(stream: bytes) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """Path to header and content; every path must occur once, in a directory that came before it."""
    found: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        for member in tar:
            assert member.name not in found
            assert not member.name.startswith("/")
            assert ".." not in member.name.split("/")
            above = member.name.rpartition("/")[0]
            assert not above or found[above][0].isdir()
            content = tar.extractfile(member) if member.isreg() or member.islnk() else None
            found[member.name] = member, content.read() if content is not None else b""
    return found


def contents(found: dict[str, tuple[tarfile.TarInfo, bytes]]) -> dict[str, bytes]:
    """Path to content of what is a file."""
    return {name: content for name, (header, content) in found.items() if header.isreg() or header.islnk()}


def test_later_layers_win_and_directories_join(merged: Any) -> None:
    found = merged(
        [folder("a", mode=0o700), file("a/x", b"1"), file("a/y", b"1"), file("b", b"1"), folder("c"), file("c/z")],
        [folder("a", mode=0o755), file("a/x", b"2"), folder("b"), file("b/deep/er", b"2"), file("c", b"2")],
    )
    assert contents(found) == {"a/x": b"2", "a/y": b"1", "b/deep/er": b"2", "c": b"2", "own": b"ours"}
    assert found["a"][0].mode == 0o755


def test_whiteouts_hide_what_lies_below_and_only_that(merged: Any) -> None:
    below = [file("a/x"), file("a/y"), file("b/x"), file("b/sub/y"), file("keep"), file("gone")]
    above = [file("a/.wh.x"), file("b/new"), file("b/sub/new"), file(f"b/{OPAQUE}"), file(".wh.gone"), file("a/z")]
    assert contents(merged(below, above)).keys() == {"a/y", "a/z", "b/new", "b/sub/new", "keep", "own"}
    # the order within a layer says nothing: a name that a layer brings stays, whether hidden before or after
    for order in ([file(".wh.a"), file("a/new")], [file("a/new"), file(".wh.a")]):
        assert contents(merged(below, order)).keys() & {"a/x", "a/y", "a/new"} == {"a/new"}


def test_an_engines_export_has_no_whiteouts(merged: Any) -> None:
    assert ".wh.x" in merged([file("x"), file(".wh.x")], whiteouts=False)


def test_hard_links_share_content_whatever_becomes_of_the_first_name(merged: Any) -> None:
    found = merged([file("a", b"one"), hard_link("b", "a"), hard_link("d/c", "/b")], [file(".wh.a"), file("b", b"two")])
    assert contents(found) == {"b": b"two", "d/c": b"one", "own": b"ours"}
    found = merged([file("a", b"one"), hard_link("b", "a")])
    assert sorted(header.type for header, _ in (found["a"], found["b"])) == [tarfile.REGTYPE, tarfile.LNKTYPE]
    assert contents(merged([file("a", b"1")], [hard_link("b", "a"), file(".wh.a")])) == {"b": b"1", "own": b"ours"}


def test_owners_modes_devices_and_attributes_are_kept_but_not_what_an_overlay_would_obey(merged: Any) -> None:
    capability = b"\x01\x00\x00\x02\x00\x20\xff\x00".decode("utf-8", "surrogateescape")
    kept = {"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.note": "x"}
    dropped = {"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.user.overlay.opaque": "y"}
    found = merged(
        [
            file("f", b"x", mode=0o4711, uid=70000, gid=9, mtime=5, pax_headers=kept | dropped),
            made("null", tarfile.CHRTYPE, devmajor=1, devminor=3),
            made("whiteout", tarfile.CHRTYPE, devmajor=0, devminor=0),
            made("pipe", tarfile.FIFOTYPE),
        ]
    )
    header = found["f"][0]
    assert (header.mode, header.uid, header.gid, header.mtime) == (0o4711, 70000, 9, 5)
    assert {key: value for key, value in header.pax_headers.items() if "xattr" in key} == kept
    assert (found["null"][0].devmajor, found["null"][0].devminor) == (1, 3)
    assert found["pipe"][0].isfifo()
    assert "whiteout" not in found


def test_names_are_bytes(merged: Any) -> None:
    strange = b"\xff\xfe new\nline".decode("utf-8", "surrogateescape")
    deep = "/".join(["d" * 90] * 5)
    assert {strange, f"{deep}/f"} <= merged([file(strange), file(f"{deep}/f")]).keys()


def test_a_link_leads_on_within_its_layer_and_within_the_image(merged: Any) -> None:
    found = merged([folder("real"), link("to", "/real"), file("to/x", b"1"), link("up", "../../real"), file("up/y")])
    assert contents(found).keys() == {"real/x", "real/y", "own"}
    # engines unpack each layer apart, so that a link of a layer below gives way
    found = merged([folder("real"), link("to", "real")], [file("to/x", b"1")])
    assert found["to"][0].isdir()


HOSTILE = {
    "a path that leads out": [file("../outside", b"x")],
    "a path that leads out later": [file("a/../../outside", b"x")],
    "a hard link that leads out": [hard_link("in", "../../outside")],
    "a hard link to nothing": [hard_link("in", "/etc/passwd")],
    "a hard link to a directory": [folder("d"), hard_link("in", "d")],
    "links in a circle": [link("a", "b"), link("b", "a"), file("a/x")],
    "a whiteout of the directory itself": [file("d/x"), file("d/.wh..")],
    "a whiteout of the directory above": [file("d/.wh...")],
    "a whiteout of nothing": [file(".wh.")],
    "a name that no disk takes": [file("n" * 300)],
    "a path that no kernel takes": [file("/".join(["n"] * 3000))],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_engine_would_make_is_refused(merged: Any, what: str) -> None:
    with pytest.raises(PullError) as caught:
        merged(HOSTILE[what])
    assert caught.value.kind is PullFailure.MALFORMED
    assert "layer-0" in caught.value.said


def extension(*records: tuple[bytes, bytes]) -> bytes:
    """A header of extended fields as it lies in a layer, for the member after it."""
    body = b""
    for key, value in records:
        left = len(key) + len(value) + 3
        length = next(size for size in range(left, left + 9) if size == left + len(str(size)))
        body += b"%d %s=%s\n" % (length, key, value)
    header, _ = made("extension", tarfile.XHDTYPE, body)
    return header.tobuf(tarfile.GNU_FORMAT) + body + bytes(-len(body) % tarfile.BLOCKSIZE)


def member(name: str, kind: bytes = tarfile.REGTYPE, **header: Any) -> bytes:
    """A member without content as it lies in a layer."""
    return made(name, kind, **header)[0].tobuf(tarfile.GNU_FORMAT)


NUMBERS = {
    "a time that is no number": extension((b"mtime", b"nan")) + member("x"),
    "a time without end": extension((b"mtime", b"inf")) + member("x"),
    "a sparse map of letters": extension((b"GNU.sparse.map", b"x,y")) + member("x"),
    "a chain of extensions": extension((b"a", b"b")) * 3000 + member("x"),
    "a device beyond all": extension((b"SCHILY.xattr.user.a", b"x")) + member("x", tarfile.CHRTYPE, devmajor=1 << 40),
}


@pytest.mark.parametrize("what", NUMBERS)
def test_headers_that_python_cannot_take_make_an_image_malformed(tmp_path: Path, what: str) -> None:
    path = tmp_path / "layer"
    path.write_bytes(NUMBERS[what] + bytes(2 * tarfile.BLOCKSIZE))
    with pytest.raises(PullError) as caught:
        list(MergedImage([Layer(path, "layer")], {}).tar())
    assert caught.value.kind is PullFailure.MALFORMED


def test_attributes_whose_names_are_no_text_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    names = (b"user.\xff", b"user.a\0b", "user.ü".encode())
    records = [(b"SCHILY.xattr." + name, b"x") for name in names]
    path.write_bytes(extension(*records) + member("x") + bytes(2 * tarfile.BLOCKSIZE))
    header, _ = read(b"".join(MergedImage([Layer(path, "layer")], {}).tar()))["x"]
    assert header.pax_headers == {"SCHILY.xattr.user.ü": "x"}


def test_enormous_files_are_refused_before_they_are_read(merged: Any, tmp_path: Path) -> None:
    bomb = tarfile.TarInfo("bomb")
    bomb.size = merge.MAX_CONTENT_BYTES + 1
    path = tmp_path / "bomb"
    path.write_bytes(bomb.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(PullError, match="GiB"):
        MergedImage([Layer(path, "bomb")], {})
    name = tarfile.TarInfo("name")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    path.write_bytes(name.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(PullError, match="a header of"):
        MergedImage([Layer(path, "bomb")], {})


def test_too_many_entries_are_refused(merged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "MAX_ENTRIES", 10)
    with pytest.raises(PullError, match="more than 10 entries"):
        merged([file("/".join("abcdefghijk"))])


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress, bytes])
def test_compression_is_seen_and_the_archives_digest_is_checked(tmp_path: Path, compress: Any) -> None:
    plain, path = archive([file("x", b"content" * 1000)]), tmp_path / "layer"
    path.write_bytes(compress(plain))
    assert contents(read(b"".join(MergedImage([Layer(path, "l", digest(plain))], {}).tar())))["x"] == b"content" * 1000
    with pytest.raises(PullError, match="does not have the digest"):
        MergedImage([Layer(path, "l", digest(b"other"))], {})
    path.write_bytes(compress(plain)[:-700])
    with pytest.raises(PullError):
        MergedImage([Layer(path, "l", digest(plain))], {})


def test_reading_can_be_stopped_from_outside(tmp_path: Path) -> None:
    path, progress = tmp_path / "layer", layer_archive.Progress()
    path.write_bytes(archive([file("x", b"content")]))
    progress.stopped = True
    with pytest.raises(Exception, match="was stopped"):
        MergedImage([Layer(path, "l")], {}, progress)


NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", ".wh.a", ".wh.b", OPAQUE, ".wh..", "outside"]), max_size=4)
PATHS = st.tuples(st.sampled_from(["", "/", "../"]), NAMES).map(lambda drawn: drawn[0] + "/".join(drawn[1]))
MEMBERS = st.one_of(
    PATHS.map(lambda name: file(name, b"theirs")),
    PATHS.map(folder),
    st.tuples(PATHS, PATHS).map(lambda two: link(*two)),
    st.tuples(PATHS, PATHS).map(lambda two: hard_link(*two)),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(MEMBERS, max_size=8), min_size=1, max_size=3))
def test_whatever_layers_say_nothing_is_written_outside(
    tmp_path_factory: pytest.TempPathFactory, layers: list[list[Member]]
) -> None:
    home = tmp_path_factory.mktemp("any")
    found = []
    for number, members in enumerate(layers):
        kept: list[Member] = []
        for member in members:  # those that are refused must not keep the others from being tried
            (home / "layer").write_bytes(archive([*kept, member]))
            try:
                MergedImage([*found, Layer(home / "layer", "layer")], {})
                kept.append(member)
            except PullError:
                continue
        path = home / f"layer-{number}"
        path.write_bytes(archive(kept))
        found.append(Layer(path, path.name))
    stream = b"".join(MergedImage(found, {}).tar())
    names = read(stream).keys()
    tree = home / "jail" / "tree"
    tree.mkdir(parents=True)
    subprocess.run(["tar", "-x", "-f", "-", "-C", tree], input=stream, check=True)
    assert os.listdir(home / "jail") == ["tree"]
    written = {os.path.relpath(path, tree) for path in tree.rglob("*")}
    assert names <= written
