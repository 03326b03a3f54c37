"""The page of failed attempts."""

import json
from pathlib import Path

from swe_aem.store.failures import FailureLog, failed_attempt
from swe_aem.testing.builders import make_trajectory
from tests.view.pages import Parsed, page, store_with


def test_failed_attempts_by_cause_with_their_tracebacks(tmp_path: Path) -> None:
    directory = store_with(tmp_path / "run", make_trajectory("t", 0))
    assert "No attempt has failed so far." in page(directory, "failures")
    log = FailureLog(directory)
    for n in range(60):
        error: Exception = ValueError("<b>bad</b>") if n % 3 else OSError("no disk")
        try:
            raise error
        except Exception as caught:
            log.append(failed_attempt(caught, task_id="t", sample=n, attempt=1, part="agent", phase="start"))
    log.close()
    text = " ".join(Parsed(page(directory, "failures")).text.split())
    assert "ValueErroragentinfrastructure40" in text
    assert "page 1 of 2" in text
    assert "page 1 of 2" in page(directory, "failures", {"page": "9" * 5000})
    html = page(directory, "failures", {"cause": "OSError"})
    assert "&lt;b&gt;" not in html
    assert "raise error" in html
    assert html.count("<details") == 20
    counted = {"cause": "OSError", "part": "agent", "blame": "infrastructure", "attempts": 1_000}
    (directory / "failures-left-out.json").write_text(json.dumps([counted]))
    text = " ".join(Parsed(page(directory, "failures")).text.split())
    assert "OSErroragentinfrastructure1,020" in text
    assert "1,000 of them are counted only: failures.jsonl was full." in text
