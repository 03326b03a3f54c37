"""`str_replace_editor`: what it changes, what it leaves alone, what it says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.agent.editor import Editor, EditorError, TextFile
from swe_aem.testing.sandbox import FakeSandbox


@pytest.fixture
def sandbox(make_sandbox) -> FakeSandbox:
    return make_sandbox()


@pytest.fixture
def edit(sandbox):
    editor = Editor(sandbox, "/testbed", max_observation_bytes=500)

    async def do(command, path="a.py", **arguments):
        return await editor.do({"command": command, "path": path, **arguments}, timeout_s=5)

    return do


@given(st.binary() | st.lists(st.sampled_from([b"\r", b"\n", b"a", b"\xff", "\u2028".encode()])).map(b"".join))
def test_decoding_loses_nothing(data):
    assert TextFile.decode(data).encode() == data


@given(st.lists(st.binary(max_size=4).filter(lambda line: b"\n" not in line)), st.sampled_from([b"\n", b"\r\n"]))
def test_lines_are_the_files_lines(lines, ending):
    data = b"".join(line.removesuffix(b"\r") + ending for line in lines)
    assert len(TextFile.decode(data).lines) == len(lines)


async def test_view_numbers_lines(edit, sandbox):
    sandbox.files["/testbed/a.py"] = "one\ntwo\u2028still two\n\tthree".encode()
    assert (
        await edit("view") == "/testbed/a.py, lines 1-3 of 3:\n     1\tone\n     2\ttwo\u2028still two\n     3\t\tthree"
    )
    assert await edit("view", view_range=[2, 2]) == "/testbed/a.py, lines 2-2 of 3:\n     2\ttwo\u2028still two"
    assert "lines 2-3 of 3" in await edit("view", path="/testbed/a.py", view_range=[2, -1])
    assert "lines 2-3 of 3" in await edit("view", view_range=[2, 99])


@pytest.mark.parametrize("view_range", [[0, 2], [3, 2], [5, -1], [-2, -1]])
async def test_a_range_that_does_not_fit(edit, sandbox, view_range):
    sandbox.files["/testbed/a.py"] = b"1\n2\n3\n4\n"
    with pytest.raises(EditorError, match="the file has 4 lines"):
        await edit("view", view_range=view_range)


async def test_a_long_view_is_cut_at_a_line(edit, sandbox):
    sandbox.files["/testbed/a.py"] = b"x" * 42 + b"\n" + b"y" * 42 + b"\n" + b"z\n" * 1000
    shown = await edit("view")
    assert len(shown) < 700
    assert "cut after line" in shown
    assert "lines 1-" in shown
    assert " of 1002" in shown


async def test_view_of_odd_files(edit, sandbox):
    sandbox.files["/testbed/empty"] = b""
    assert await edit("view", path="empty") == "/testbed/empty is empty."
    sandbox.files["/testbed/latin"] = b"caf\xe9\n"
    assert "caf\ufffd" in await edit("view", path="latin")
    sandbox.files["/testbed/bin"] = b"\x7fELF\0"
    with pytest.raises(EditorError, match=r"binary file \(5 bytes\)"):
        await edit("view", path="bin")
    sandbox.files["/testbed/dos"] = b"a\r\nb\r\n"
    shown = await edit("view", path="dos")
    assert "\r" not in shown
    assert "CRLF" in shown


async def test_a_directory_is_listed_two_levels_deep(make_sandbox, host_run, tmp_path):
    for name in ("src/pkg/deep/x.py", "src/mod.py", ".git/HEAD", "src/.hidden", "with space/f", "README"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).touch()
    sandbox = make_sandbox(host_run(tmp_path))
    sandbox.files[f"{tmp_path}/tree/README"] = b""
    editor = Editor(sandbox, str(tmp_path), max_observation_bytes=5000)
    listing = await editor.do({"command": "view", "path": "tree"}, timeout_s=5)
    assert listing.split("\n")[1:] == ["README", "src/", "src/mod.py", "src/pkg/", "with space/", "with space/f"]
    with pytest.raises(EditorError, match="view_range is for files"):
        await editor.do({"command": "view", "path": "tree", "view_range": [1, 2]}, timeout_s=5)
    sandbox.files[f"{tmp_path}/ghost's/x"] = b""
    with pytest.raises(EditorError, match=r"cannot list .*No such file"):
        await editor.do({"command": "view", "path": "ghost's"}, timeout_s=5)


async def test_create(edit, sandbox):
    text = "a\n'\"$`\\\r\n\u2028é"
    assert await edit("create", path="new/b.py", file_text=text) == "Created /testbed/new/b.py (3 lines)."
    assert sandbox.files["/testbed/new/b.py"] == text.encode()
    sandbox.files["/testbed/empty"] = b""
    for path in ("new/b.py", "empty"):
        with pytest.raises(EditorError, match="exists already"):
            await edit("create", path=path, file_text="c")
    with pytest.raises(EditorError, match="is a directory"):
        await edit("create", path="new", file_text="c")


async def test_str_replace_changes_one_place(edit, sandbox):
    sandbox.files["/testbed/a.py"] = b"def f():\n    return 1\n\n\ndef g():\n    return 2"
    shown = await edit("str_replace", old_str="return 1\n", new_str="x = 1\n    return x\n")
    assert sandbox.files["/testbed/a.py"] == b"def f():\n    x = 1\n    return x\n\n\ndef g():\n    return 2"
    assert "     3\t    return x" in shown
    await edit("str_replace", old_str="\n    return 2")
    assert sandbox.files["/testbed/a.py"].endswith(b"def g():")


async def test_str_replace_must_match_once(edit, sandbox):
    sandbox.files["/testbed/a.py"] = b"a\nb\na\naaa\n"
    with pytest.raises(EditorError, match=r"occurs 5 times in /testbed/a\.py, at lines 1, 3, 4, 4, 4"):
        await edit("str_replace", old_str="a", new_str="c")
    with pytest.raises(EditorError, match="occurs 2 times"):  # they overlap, so it is not clear which is meant
        await edit("str_replace", old_str="aa", new_str="c")
    with pytest.raises(EditorError, match=r"does not occur in /testbed/a\.py"):
        await edit("str_replace", old_str="zz", new_str="c")
    with pytest.raises(EditorError, match="first line is like line 2"):
        await edit("str_replace", old_str="  b\nq", new_str="c")
    with pytest.raises(EditorError, match="old_str is empty"):
        await edit("str_replace", old_str="", new_str="c")
    with pytest.raises(EditorError, match="nothing would change"):
        await edit("str_replace", old_str="b", new_str="b")
    assert sandbox.files["/testbed/a.py"] == b"a\nb\na\naaa\n"


async def test_an_edit_leaves_all_other_bytes_alone(edit, sandbox):
    before = b"\xef\xbb\xbf# caf\xe9\r\nx = 1\n\xff\xfe tail without end"
    sandbox.files["/testbed/a.py"] = before
    await edit("str_replace", old_str="x = 1", new_str="x = 2")
    assert sandbox.files["/testbed/a.py"] == before.replace(b"x = 1", b"x = 2")


async def test_crlf_files_stay_crlf(edit, sandbox):
    sandbox.files["/testbed/a.py"] = b"a\r\nb\r\nc"
    await edit("str_replace", old_str="a\nb", new_str="1\n2\n3")
    assert sandbox.files["/testbed/a.py"] == b"1\r\n2\r\n3\r\nc"
    await edit("insert", insert_line=1, new_str="x\r\ny")
    assert sandbox.files["/testbed/a.py"] == b"1\r\nx\r\ny\r\n2\r\n3\r\nc"


@pytest.mark.parametrize(
    ("before", "line", "new", "after"),
    [
        (b"a\nb\n", 0, "x", b"x\na\nb\n"),
        (b"a\nb\n", 1, "x\ny\n", b"a\nx\ny\nb\n"),
        (b"a\nb\n", 2, "x", b"a\nb\nx\n"),
        (b"a\nb", 2, "x", b"a\nb\nx"),
        (b"", 0, "x", b"x\n"),
        (b"\n", 0, "x", b"x\n\n"),
        (b"a\n", 1, "", b"a\n\n"),
    ],
)
async def test_insert(edit, sandbox, before, line, new, after):
    sandbox.files["/testbed/a.py"] = before
    await edit("insert", insert_line=line, new_str=new)
    assert sandbox.files["/testbed/a.py"] == after


async def test_insert_beyond_the_end(edit, sandbox):
    sandbox.files["/testbed/a.py"] = b"a\n"
    with pytest.raises(EditorError, match="between 0 and 1"):
        await edit("insert", insert_line=2, new_str="x")


@pytest.mark.parametrize(
    ("command", "missing"), [("create", "file_text"), ("str_replace", "old_str"), ("insert", "insert_line")]
)
async def test_a_missing_argument_is_named(edit, sandbox, command, missing):
    sandbox.files["/testbed/a.py"] = b"a\n"
    with pytest.raises(EditorError, match=f"'{command}' needs the argument '{missing}'"):
        await edit(command)


async def test_paths_may_be_relative_or_absolute(edit, sandbox):
    sandbox.files["/etc/x"] = b"hello\n"
    assert "hello" in await edit("view", path="/etc/x")
    assert "hello" in await edit("view", path="../etc/x")


async def test_an_unknown_command_edits_nothing(edit, sandbox):
    sandbox.files["/testbed/f"] = b"a\n"
    with pytest.raises(ValueError, match="'append' is not a valid EditorCommand"):
        await edit(command="append", path="f", insert_line=1, new_str="b")
    assert sandbox.files["/testbed/f"] == b"a\n"
