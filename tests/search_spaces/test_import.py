import subprocess
import sys

import pytest

import search_spaces

HEAVY = ("torch", "ray", "numpy", "optuna", "yaml", "pydantic", "typer", "rich", "mlflow", "scipy", "pandas")


def loaded_after(code):
    command = f"{code}\nimport sys\nprint(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_import_and_use_in_python_load_no_optional_library():
    use = "from search_spaces import catalog; s = catalog.snnl() | catalog.mixup(); s.sample(); s.json_schema()"
    assert not loaded_after(use) & set(HEAVY)


def test_reading_a_document_loads_yaml_alone():
    code = "from search_spaces import SearchSpace; SearchSpace.from_yaml('use: [snnl]')"
    assert loaded_after(code) & set(HEAVY) == {"yaml"}


def test_adapters_load_their_library_only_when_used():
    assert "optuna" in loaded_after(
        "import search_spaces.adapters.optuna as a, search_spaces as s; a.distributions(s.catalog.mixup())"
    )
    assert "optuna" not in loaded_after("import search_spaces.adapters.optuna")


@pytest.mark.parametrize("name", search_spaces.__all__)
def test_every_public_name_exists(name):
    assert getattr(search_spaces, name) is not None
