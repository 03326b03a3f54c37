"""Files that decide how tests are built and run, by language: a patch may change them only where the gold patch does.

A pattern without a slash matches a file name in any directory; `dir/*` matches everything below a directory of that
name, anywhere; any other pattern with a slash matches the end of a path.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class ConfigurationFiles:
    """Files of one kind."""

    reason: str
    """Why they are refused; completes `path (...)`."""
    patterns: tuple[str, ...]
    builds: bool = False
    """Do they belong to the build rather than to the test runner? Where a task has a command instead of a gold patch,
    nobody knows which of these its solution makes, and they are let through."""


CONFIGURATION_FILES = (
    # Python
    ConfigurationFiles("runs whenever Python starts", (
        "sitecustomize.*", "sitecustomize/*", "usercustomize.*", "usercustomize/*", "*.pth", "*._pth", "pyvenv.cfg",
    )),
    ConfigurationFiles("configures the test runner, or is one", (
        "conftest.py", "pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "tox.ini", "tox.toml", ".coveragerc",
        "noxfile.py", "nose.cfg", ".noserc", "unittest.cfg", "nose2.cfg",
        "runtests.*", "run_tests.*", "runtests", "run_tests",
    )),
    ConfigurationFiles("configures the test runner or the installation", (
        "pyproject.toml", "setup.cfg", "setup.py", "hatch_build.py",
    )),
    ConfigurationFiles("is package metadata, which can register a plugin with the test runner", (
        "*.egg-info/*", "*.dist-info/*", "*.egg-link", "entry_points.txt",
    )),
    # JavaScript, TypeScript
    ConfigurationFiles("configures the test runner", (
        "package.json", "jest.config.*", "jest.setup.*", "jest-*.json", "vitest.config.*", "vitest.setup.*",
        "vitest.workspace.*", "karma.conf.*", "karma.*.js", ".mocharc*", "mocha.opts", "ava.config.*", ".nycrc*",
        "nyc.config.*", ".taprc", ".c8rc*", "jasmine.json", "jasmine.*.js", "cypress.config.*", "playwright.config.*",
        "wdio.conf.*", "testem.*", "web-test-runner.config.*", "bunfig.toml",
    )),
    ConfigurationFiles("configures how the tests are compiled or loaded", (
        "babel.config.*", ".babelrc*", ".swcrc", "tsconfig*.json", "jsconfig*.json", "vite.config.*",
        "webpack.config.*", "webpack.*.js", "rollup.config.*", "esbuild.config.*",
        "gulpfile.*", "Gruntfile.*", "lerna.json", "nx.json",
        "turbo.json", "deno.json", "deno.jsonc", ".npmrc", ".yarnrc*", ".yarn/*", ".pnp.*", "package-lock.json",
        "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "pnpm-workspace.yaml",
    ), builds=True),
    # Go
    ConfigurationFiles("configures the build", ("go.mod", "go.sum", "go.work", "go.work.sum"), builds=True),
    # Rust
    ConfigurationFiles("configures the test runner", ("nextest.toml", ".config/nextest.toml")),
    ConfigurationFiles("configures or runs with the build", (
        "Cargo.toml", "Cargo.lock", "build.rs", ".cargo/*", "rust-toolchain", "rust-toolchain.toml",
    ), builds=True),
    # Java, Kotlin
    ConfigurationFiles("configures the test runner, or registers an extension with it", (
        "testng*.xml", "junit-platform.properties", "META-INF/*", "surefire.properties",
        "ProjectConfig.kt", "kotest.properties",
    )),
    ConfigurationFiles("configures or runs with the build", (
        "pom.xml", "build.gradle*", "settings.gradle*", "*.gradle", "*.gradle.kts", "gradle.properties", "gradlew*",
        "gradle/*", "buildSrc/*", "mvnw*", ".mvn/*", "build.xml", "ivy*.xml", "lombok.config",
    ), builds=True),
    # Ruby
    ConfigurationFiles("configures the test runner, or is loaded before the tests", (
        ".rspec*", "spec_helper.rb", "rails_helper.rb", "test_helper.rb", ".simplecov", "cucumber.y*ml", "Guardfile",
    )),
    ConfigurationFiles("configures or runs with the build", (
        "Gemfile*", "*.gemspec", "gems.rb", "gems.locked", "Rakefile", "rakefile", "Rakefile.rb", "*.rake", ".bundle/*",
    ), builds=True),
    # PHP
    ConfigurationFiles("configures the test runner, or is loaded before the tests", (
        "phpunit*.xml*", "Pest.php", "codeception*.y*ml", "*.suite.y*ml", "behat*.y*ml", "kahlan-config.php",
        "php.ini", ".user.ini",
    )),
    ConfigurationFiles("configures the installation", ("composer.json", "composer.lock"), builds=True),
    # C, C++
    ConfigurationFiles("configures the test runner", ("CTestConfig.cmake", "CTestCustom.*", "CTestTestfile.cmake")),
    ConfigurationFiles("configures the build", (
        "CMakeLists.txt", "*.cmake", "CMakePresets.json", "CMakeUserPresets.json", "Makefile*", "makefile*",
        "GNUmakefile*", "*.mk", "*.mak", "configure", "configure.ac", "configure.in", "meson.build", "meson.options",
        "meson_options.txt", "build.ninja", "BUILD", "BUILD.bazel", "WORKSPACE", "WORKSPACE.bazel", "MODULE.bazel",
        ".bazelrc", "*.bzl", "SConstruct", "SConscript", "conanfile.*", "xmake.lua", "premake5.lua",
    ), builds=True),
    # Every language
    ConfigurationFiles("is an installed package, not source", (
        "node_modules/*", "site-packages/*", "dist-packages/*", "bower_components/*", "vendor/*",
    ), builds=True),
    ConfigurationFiles("chooses the interpreter or the compiler", (
        ".python-version", ".ruby-version", ".node-version", ".nvmrc", ".java-version", ".sdkmanrc", ".tool-versions",
        "mise.toml", ".mise.toml", ".envrc",
    ), builds=True),
    ConfigurationFiles("configures git, which the evaluation runs", (".gitattributes", ".gitmodules")),
)  # fmt: skip


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Does one of the patterns match the path, as the module's description says?"""
    parts = path.split("/")
    for pattern in patterns:
        directory, slash, rest = pattern.rpartition("/")
        if rest == "*":
            depth = directory.count("/") + 1
            heads = ("/".join(parts[at : at + depth]) for at in range(len(parts) - depth))
            if any(fnmatchcase(head, directory) for head in heads):
                return True
        elif slash:
            if fnmatchcase("/".join(parts[-pattern.count("/") - 1 :]), pattern):
                return True
        elif fnmatchcase(parts[-1], pattern):
            return True
    return False
