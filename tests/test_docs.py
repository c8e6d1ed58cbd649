"""The reference pages say what the code does."""

import importlib.util
import json
from pathlib import Path

import jsonschema
import pytest

from vedette.wire.classic import ClassicSettings
from vedette.wire.declare import EVENT_TYPES, describe
from vedette.wire.twin import Settings

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module", autouse=True)
def _columns():
    """argparse folds help texts at the terminal's width."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "100")
        yield


def generator():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "page",
    ["events.md", "settings.md", "settings.schema.json", "classic-settings.md", "checks.md", "commands.md"],
)
def test_generated_pages_are_fresh(page: str):
    """`make docs` would change nothing."""
    assert (DOCS / "reference" / page).read_text() == generator().GENERATED[page]()


def test_every_setting_and_field_is_explained():
    """No setting and no event field goes without a text."""
    declared = [Settings, ClassicSettings, *(kind.payload for kind in EVENT_TYPES.values())]
    silent = [f"{cls.__name__}.{name}" for cls in declared for name, _, _, text in describe(cls) if not text]
    assert silent == []


def test_the_schema_agrees_with_the_agent():
    """The JSON schema takes the defaults and refuses what the agent refuses."""
    schema = json.loads((DOCS / "reference" / "settings.schema.json").read_text())
    jsonschema.validate(Settings().document(), schema)
    for wrong in ({"Process_CacheSize": 0}, {"Process_Disabled": 1}, {"Nonsense": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
