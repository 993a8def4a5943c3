"""What is deployed says what the code says."""

from __future__ import annotations

from pathlib import Path

import yaml

from diga.launch import SETTINGS
from diga.launch.failures import MANNERS

ROOT = Path(__file__).parents[1]


def test_a_jobs_environment_has_the_settings_of_the_code():
    told = yaml.safe_load((ROOT / "deploy/job.yaml").read_text())["env_vars"]
    assert {k: v for k, v in told.items() if not k.startswith("DIGA_")} == SETTINGS
    assert {"DIGA_HOME", "DIGA_DATA"} <= told.keys()


def test_the_page_names_every_class_of_failure_and_its_tries():
    page = (ROOT / "docs/cluster.md").read_text("utf8")
    for kind, manner in MANNERS.items():
        (line,) = (line for line in page.splitlines() if line.startswith("|") and f"`{kind}`" in line.split("|")[1])
        assert line.split("|")[2].split()[0].strip(",") == str(manner.tries)
        assert ("does not" in line.split("|")[3]) == (not manner.typed_again)
