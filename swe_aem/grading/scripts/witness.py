# The witness: records what pytest or unittest reports of each test, and signs it when the session ends.
#
# Put into a directory on PYTHONPATH as `sitecustomize.py`, so that every Python below the test command loads it before
# anything of the work tree. Where Python does not do that (-S, -E, -I), the command runs the file itself, and the name
# of the runner's module follows. A call with the names of this run is appended. The key comes in an environment
# variable: the process that runs the session takes it out of there, and out of the copy that the kernel made of the
# environment, so that no process below has it. Python 2 must be able to read this file, and Python 3.5 to run it.
import os
import sys


def _witness(here, variable, token, records, module):
    import atexit
    import hashlib
    import json
    import time
    import types

    environ, getpid, owner = os.environ, os.getpid, os.getpid()
    digest, dumps, urandom, write, clock = hashlib.sha256, json.dumps, os.urandom, open, time.monotonic
    unlink, truncate = os.unlink, os.truncate
    space_bytes = 2 << 20

    def without_us(name):
        """Take our directory off a path in the environment."""
        rest = os.pathsep.join(entry for entry in environ.get(name, "").split(os.pathsep) if entry != here)
        if rest:
            environ[name] = rest
        else:
            environ.pop(name, None)

    def forget(text):
        """Overwrite the value where the kernel put the environment when this process started."""
        try:
            with write("/proc/self/environ", "rb") as stream:
                at = stream.read().find((variable + "=" + text).encode())
            with write("/proc/self/stat", "rb") as stream:
                start = int(stream.read().rpartition(b")")[2].split()[47])
            if at >= 0 and start:
                with write("/proc/self/mem", "r+b", 0) as memory:
                    memory.seek(start + at + len(variable) + 1)
                    memory.write(b"-" * len(text))
        except (OSError, ValueError, IndexError):  # a kernel that does not show it
            pass

    def take():
        """The key; None in processes below the session."""
        key = environ.pop(variable, None)
        if key is not None:
            without_us("PYTHONPATH")
            forget(key)
            if os.path.exists(token):
                unlink(token)
            spaces.append(space())
        return key

    keys, spaces = [], []

    def key_of_session():
        if getpid() != owner:
            return None
        if not keys:
            keys.append(take())
        return keys[0]

    def space():
        """The file of a record, mapped into memory, with all that it may take: to write there needs nothing that code
        may use up or take away (descriptors, the disk, limits, rights, the root directory). None where that
        cannot be."""
        name = records + "/" + urandom(16).hex()
        try:
            from mmap import mmap

            with write(name, "w+b") as stream:
                try:
                    os.posix_fallocate(stream.fileno(), 0, space_bytes)
                    if sys.version_info >= (3, 13):
                        return name, mmap(stream.fileno(), space_bytes, trackfd=False)
                    free = os.open("/dev/null", os.O_RDONLY)
                    os.close(free)
                    memory = mmap(stream.fileno(), space_bytes)  # keeps a copy of the descriptor, which has that number
                    if os.path.sameopenfile(free, stream.fileno()):
                        null = os.open("/dev/null", os.O_RDONLY)
                        os.dup2(null, free, False)
                        os.close(null)
                    return name, memory
                except (OSError, ValueError):
                    unlink(name)
        except (ImportError, AttributeError, OSError):
            pass
        return None

    def space_of_session():
        return spaces.pop() if spaces else space()

    def keep(key, space, runner, results):
        """Write the signed record of a session that has ended."""
        valid = [(name.encode("utf-8", "replace").decode("utf-8"), status) for name, status in results]
        text = dumps({"runner": runner, "ended_s": clock(), "results": valid})
        inner = digest((key + text).encode("utf-8")).hexdigest()
        data = (digest((key + inner).encode("utf-8")).hexdigest() + "\n" + text + "\n").encode("ascii")
        try:
            if space and len(data) < space_bytes:
                space[1][: len(data)] = data
            else:
                with write(records + "/" + urandom(16).hex(), "wb") as stream:
                    stream.write(data)
        except OSError:  # the session keeps its own exit code
            pass

    def leave(space):
        """Give back the space that the record did not need, when there will be no longer one."""
        try:
            if space:
                truncate(space[0], space[1].find(b"\0"))
        except OSError:
            pass

    def plugin_of_pytest(key, ended, hookimpl):
        """A plugin for one session: pytest's own reports, by the names that it prints."""
        results, seen, config, kept, space = [], set(), [], [], space_of_session()

        def name_of(report):
            try:  # pytest 9.2 wants its own kind of id
                return str(config[0].cwd_relative_nodeid(getattr(report, "id", report.nodeid)))
            except Exception:  # an id that is no path
                return report.nodeid

        def add(report, status):
            result = (name_of(report), status)
            if result not in seen:
                seen.add(result)
                results.append(result)

        def configure(config_):
            config.append(config_)

        def logreport(report):
            excused = hasattr(report, "wasxfail")
            if type(report).__name__.lower() == "subtestreport":  # its test has a report of its own
                if report.failed:
                    add(report, "FAILED")
            elif report.failed:
                add(report, "ERROR" if report.when in ("setup", "teardown") else "FAILED")
            elif report.skipped:
                add(report, "XFAIL" if excused else "SKIPPED")
            elif report.passed and report.when == "call":
                add(report, "XPASS" if excused else "PASSED")

        def collectreport(report):
            if report.failed:
                add(report, "ERROR")

        def finish():
            if getpid() == owner and kept != [len(results)]:
                kept[:] = [len(results)]
                keep(key, space, "pytest", results)

        def unconfigure():
            if getpid() == owner and config:
                del config[:]
                ended()
                finish()
                leave(space)

        plugin = types.ModuleType("swe_aem_" + variable[-8:].lower())
        plugin.__dict__.update(
            pytest_configure=lambda config: configure(config),
            pytest_runtest_logreport=lambda report: logreport(report),
            pytest_collectreport=lambda report: collectreport(report),
            # Before any other plugin ends the process in a hook of its own, as some do whose threads never end.
            pytest_sessionfinish=hookimpl(tryfirst=True)(lambda: finish()),
            pytest_unconfigure=lambda: unconfigure(),
        )
        return plugin

    def watch_pytest(config):
        prepare, open_sessions = config._prepareconfig, []

        def _prepareconfig(args=None, plugins=None, *more, **options):
            key = None if open_sessions else key_of_session()
            if key is None:  # a session within the session
                return prepare(args, plugins, *more, **options)
            open_sessions.append(True)
            given = [plugin_of_pytest(key, open_sessions.pop, config.hookimpl)]
            given.extend(plugins or ())
            try:
                return prepare(args, given, *more, **options)
            except BaseException:
                del open_sessions[:]
                raise

        config._prepareconfig = _prepareconfig

    def watch_unittest(result):
        """Results of the first runner of this process that has begun, and after its end of the next one."""
        session = {"result": None, "implied": False, "between": False, "key": None, "space": None, "results": []}

        def begin(one):
            if session["between"]:
                end(session["result"])
            if session["result"] is None:
                key = key_of_session()
                session.update(result=one, key=key, space=key and space_of_session(), results=[])

        def start(one, test):
            """A suite that is run without a runner, which would have said that it begins and ends."""
            if session["result"] is None:
                begin(one)
                atexit.register(end, one)
                session["implied"] = True
            if session["result"] is one:
                session["between"] = False

        def stop(one, test):
            if session["result"] is one:
                session["between"] = session["implied"]

        def end(one):
            if session["result"] is one:
                session.update(result=None, implied=False, between=False)
                if session["key"] is not None and getpid() == owner:
                    keep(session["key"], session["space"], "unittest", session["results"])
                    leave(session["space"])

        def add(one, test, status):
            if session["result"] is one:
                describe = getattr(one, "getDescription", str)
                session["results"].append((str(describe(test)), status))

        def subtest(one, test, _, error):
            if error is not None:
                add(one, test, "FAILED")

        notes = {
            "startTestRun": begin,
            "startTest": start,
            "stopTest": stop,
            "stopTestRun": end,
            "addSuccess": lambda one, test: add(one, test, "PASSED"),
            "addError": lambda one, test, error: add(one, test, "ERROR"),
            "addFailure": lambda one, test, error: add(one, test, "FAILED"),
            "addSkip": lambda one, test, reason: add(one, test, "SKIPPED"),
            "addExpectedFailure": lambda one, test, error: add(one, test, "XFAIL"),
            "addUnexpectedSuccess": lambda one, test: add(one, test, "FAILED"),
            "addSubTest": subtest,
        }

        def noted(one, name):
            note, kind = notes[name], type(one)

            def method(*arguments, **keywords):
                note(one, *arguments, **keywords)
                return getattr(kind, name)(one, *arguments, **keywords)

            return method

        init = result.TestResult.__init__

        def __init__(self, *arguments, **keywords):
            init(self, *arguments, **keywords)
            if getpid() == owner:
                for name in notes:
                    self.__dict__[name] = noted(self, name)

        result.TestResult.__init__ = __init__

    watched = {"_pytest.config": watch_pytest, "unittest.result": watch_unittest}

    class Finder:
        """Watches a runner as soon as this process imports it."""

        def find_spec(self, name, path=None, target=None):
            watch = watched.get(name)
            if watch is None:
                return None
            from importlib.machinery import PathFinder

            spec = PathFinder.find_spec(name, path)
            loader = spec.loader if spec is not None else None
            if loader is None:
                return None
            execute = loader.exec_module

            def exec_module(module):
                execute(module)
                watch(module)

            loader.exec_module = exec_module
            return spec

    def main_module():
        """What this process runs: the module behind -m, or the path of its script."""
        words = getattr(sys, "orig_argv", None)
        if words is None:
            with write("/proc/self/cmdline", "rb") as stream:
                words = [os.fsdecode(word) for word in stream.read().split(b"\0")[:-1]]
        words = list(words[1:])
        while words:
            word = words.pop(0)
            if not word.startswith("-") or word == "-":
                return word
            letters = "" if word.startswith("--") else word[1:]
            if word == "--check-hash-based-pycs":
                del words[:1]
            while letters:
                letter, letters = letters[0], letters[1:]
                if letter in "WX":
                    del words[: not letters]
                    break
                if letter in "mc":
                    return (letters or words[0]) if letter == "m" and (letters or words) else ""
        return ""

    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    if variable not in environ:
        return
    module = module or main_module()
    home, name = os.path.split(module)
    is_pytest, is_unittest = name in ("pytest", "py.test"), module == "unittest"
    # Other runners of that name may start one of the runners below them, where it takes the key.
    is_django = name == "runtests.py" and os.path.exists(os.path.join(home, "test_sqlite.py"))
    if is_pytest or is_unittest or is_django:
        key_of_session()
    if is_pytest:
        import _pytest.config  # before the work tree is on the path

        watch_pytest(_pytest.config)
    elif is_unittest or is_django:
        import unittest

        watch_unittest(unittest.result)
    else:
        sys.meta_path.insert(0, Finder())
        for name in list(watched):
            if name in sys.modules:
                watched.pop(name)(sys.modules[name])


def _try(names, module):
    """Put the witness in place. Without it there is no record, and whoever reads the log sees that."""
    try:
        _witness(*names, module=module)
    except Exception:
        return


def _as_sitecustomize(*names):
    """Load the witness, then the sitecustomize of the image, if it has one."""
    if sys.version_info[0] > 2:  # noqa: UP036
        _try(names, "")
    empty = type(sys)("sitecustomize")
    sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # type: ignore[import-not-found] # noqa: F401
    except ImportError:
        sys.modules["sitecustomize"] = empty


def _as_program(*names):
    """Do what `python -m MODULE` does, with the witness."""
    import runpy

    module = sys.argv.pop(1)
    has_directory = bool(sys.path) and os.path.abspath(sys.path[0] or ".") == names[0]
    _try(names, module)
    if has_directory:
        sys.path.insert(0, os.getcwd())
    runpy.run_module(module, run_name="__main__", alter_sys=True)
