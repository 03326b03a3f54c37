"""Names of the log parsers that rows may ask for. The parsers themselves live in the grading room and in swebench.

Importing swebench's registry takes seconds, and listing tasks must not; a test compares this list with it.
"""

SWEBENCH_PARSERS = frozenset(
    f"parse_log_{name}"
    for name in (
        "ant", "astroid", "astropy", "bpmn_js", "calypso", "carbon", "cargo", "chart_js", "cucumber", "django",
        "doctest", "eslint", "flask", "googletest", "gotest", "gradle_custom", "grommet", "highlightjs",
        "immutable_js", "jekyll", "jest", "jest_json", "jq", "karma", "lighthouse", "marked", "marshmallow",
        "matplotlib", "maven", "micropython_test", "minitest", "next", "openlayers", "p5js", "phpunit",
        "prismjs", "pvlib", "pydicom", "pylint", "pytest", "pytest_options", "pytest_v2", "pyvista",
        "quarto_cli", "react_pdf", "redis", "requests", "rspec_transformed_json", "ruby_unit", "scikit",
        "seaborn", "sphinx", "sqlfluff", "sympy", "tap", "vitest", "xarray",
    )
)  # fmt: skip
"""Those of swebench 5.0.2."""

OWN_PARSERS = frozenset(
    {"r2egym", "swesmith_pytest", "swesmith_xdist", "swesmith_unittest", "swesmith_mypy", "multi_swe_bench"}
)
"""Those of `swe_aem.grading.log_parsers`."""

PARSERS = SWEBENCH_PARSERS | OWN_PARSERS
