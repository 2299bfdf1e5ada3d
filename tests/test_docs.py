"""The documents name everything that a user can set, see or call, and their links lead somewhere."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from bots.strategies import DEFINITIONS
from server.notify.commands import COMMANDS, HELP
from shared.events import PAYLOADS
from simulator.app import main as simulator_command
from simulator.faults.kinds import KINDS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])


def test_every_config_field_is_documented():
    text = (ROOT / "docs" / "configuration.md").read_text()
    for definition in DEFINITIONS.values():
        assert f"`{definition.id}`" in text
        missing = [p.name for p in definition.parameters if f"| `{p.name}` |" not in text]
        assert missing == []


def test_every_event_type_and_each_of_its_fields_is_documented():
    rows = dict(re.findall(r"^\| `([a-z.]+)` \|(.*)$", (ROOT / "docs" / "events.md").read_text(), re.MULTILINE))
    for name, payload in PAYLOADS.items():
        assert name in rows
        missing = [f.name for f in fields(payload) if f"`{f.name}`" not in rows[name]]
        assert (name, missing) == (name, [])


def test_every_telegram_command_is_documented_and_helped_with():
    text = (ROOT / "docs" / "telegram.md").read_text()
    told = COMMANDS - {"start"}  # Telegram's own greeting
    assert [c for c in sorted(told) if f"`/{c}" not in text] == []
    assert [c for c in sorted(told - {"help"}) if f"/{c}" not in HELP] == []


def test_every_fault_of_the_simulator_is_documented_with_its_help_and_an_example():
    text = (ROOT / "docs" / "simulator.md").read_text()
    for kind in KINDS.values():
        example = json.dumps(dict(kind.example), ensure_ascii=False)
        assert f"| `{kind.name}` | {kind.help} | `{example}` |\n" in text


def test_every_option_of_the_simulator_is_in_its_help_or_its_document():
    text = (ROOT / "docs" / "simulator.md").read_text()
    options = [option for parameter in simulator_command.params for option in parameter.opts if option.startswith("--")]
    untold = {"--host", "--port", "--port-file", "--unlimited", "--help"}  # for machines; said by --help
    assert [option for option in options if option not in untold and f"`{option}" not in text] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document):
    targets = re.findall(r"\]\(([^)#\s]+)", document.read_text())
    broken = [t for t in targets if "://" not in t and not (document.parent / t).exists()]
    assert broken == []
