"""What a training run does before anything of it is loaded."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("trl", reason="needs the train extra")


def test_nothing_is_reported_to_the_makers_of_libraries() -> None:
    """Their thread reads the environment while accelerate changes it: one run in a dozen ended with a segmentation
    fault."""
    code = (
        "import threading; from swe_aem.train.start import quiet; quiet()\n"
        "from huggingface_hub.utils import send_telemetry; send_telemetry('trl')\n"
        "assert threading.enumerate() == [threading.main_thread()]\n"
    )
    online = {
        name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    }
    subprocess.run([sys.executable, "-c", code], env=online, check=True)
