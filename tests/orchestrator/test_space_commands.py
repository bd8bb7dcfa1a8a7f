"""`ravel space`, as a person runs it."""

import contextlib
import io
import json
import subprocess
import sys

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from orchestrator.cli import main as cli
from orchestrator.cli.spaces import _print_points, app, load_space
from orchestrator.errors import SpecError
from orchestrator.planning.loading import load_spec, parse_spec
from orchestrator.spec.json_schema import sweep_schema
from search_spaces import SearchSpace, catalog, load_yaml

CONSTRAINED = "parameters: {a: {int: [1, 9]}, b: {int: [1, 9]}}\nconstraints: [a < b]\n"
NAMES = st.sampled_from(["optimizer.lr", "a", "null", "true", "on_1", "e3"])
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=60)
)
SWEEP = jsonschema.Draft202012Validator(sweep_schema())


def ravel_space(*arguments, width=100):
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": str(width)}, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture
def wrong_files(tmp_path):
    for name, text in {
        "wrong.yaml": "parameters: {lr: {flaot: [0, 1]}}",
        "empty.yaml": "parameters: {a: {float: [0, 1]}}\nconstraints: [a > 2]\n",
        "log.yaml": "parameters: {a: {float: [-1, 1]}}\nconstraints: [log(a) > -3]\n",
        "spec.yaml": "{name: x, search: {num_trails: 3}}",
        "neither.yaml": "paramters: {a: 1}",
        "open.yaml": "[",
        "open.json": "{",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "latin.yaml").write_bytes("name: é".encode("latin-1"))
    return tmp_path


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(CONSTRAINED)
    return str(path)


def test_show_tells_domains_conditions_constraints_and_size(document):
    shown = ravel_space("show", document)
    assert "an int in [1, 9]" in shown
    assert "constraint: a < b" in shown
    assert "2 parameters, 36 points, fingerprint " in shown
    assert "of 10,000 draws" in shown
    assert "when" in ravel_space("show", "catalog:mixup")


@pytest.mark.parametrize("width", [80, 100, 140])
def test_show_keeps_every_name_whole_and_cuts_nothing(width):
    shown = ravel_space("show", "catalog:regularizers", width=width)
    space = catalog.regularizers()
    assert all(name in shown for name in space.names)
    words = {word for name in space.names for word in space.describe(name).split()}
    assert all(word.strip("(),'") in shown for word in words)
    assert all(len(line) <= width for line in shown.splitlines())


def test_a_sweep_is_shown_with_what_its_trials_fix(repository):
    spec = str(repository / "examples" / "digits.yaml")
    assert load_space(spec) == load_spec(spec).space
    assert "always 'sgd'" in ravel_space("show", spec)


def test_samples_are_lines_that_may_stand_in_a_sweep():
    lines = yaml.safe_load(ravel_space("sample", "catalog:pgd", "-n", "20", "--seed", "3"))
    assert lines == catalog.pgd().sample_many(20, seed=3)
    spec = parse_spec(
        "name: x\nsearch:\n  num_trials: 9\n  points:\n"
        + "".join(f"  {line}\n" for line in ravel_space("sample", "catalog:mixup").splitlines())
    )
    assert list(spec.search.points) == catalog.mixup().sample_many(5)


@given(st.lists(st.dictionaries(NAMES, SCALARS, min_size=1), max_size=3))
def test_a_point_is_one_line_that_reads_back_as_it_was(points):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        _print_points(points, as_json=False)
    assert json.dumps(load_yaml(out.getvalue()) or []) == json.dumps(points)
    assert len(out.getvalue().splitlines()) == len(points)


def test_every_reading_command_speaks_json(document):
    assert SearchSpace.from_json(ravel_space("show", document, "--json")) == load_space(document)
    assert json.loads(ravel_space("sample", document, "--json")) == load_space(document).sample_many(5)
    assert json.loads(ravel_space("corners", document, "--json")) == load_space(document).corners()
    found = json.loads(ravel_space("diff", "catalog:mixup", "catalog:manifold_mixup", "--json"))
    assert found["added"] == {"mixup.detached": "always False when mixup.alpha != 0"}
    assert list(found["changed"]) == ["mixup.alpha", "mixup.layers"]


def test_diff_of_equal_spaces_says_so(document):
    assert ravel_space("diff", document, document) == "no difference\n"


def test_a_json_document_is_read(tmp_path):
    path = tmp_path / "space.json"
    path.write_text(catalog.pgd().to_json())
    assert load_space(str(path)) == catalog.pgd()


def test_a_sweep_in_json_is_read_as_it_is_in_yaml(tmp_path):
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps({"name": "x", "space": {"use": ["mixup"]}}))
    assert load_space(str(path)) == catalog.mixup()


def test_schema_of_a_space_is_that_of_its_points(document):
    assert json.loads(ravel_space("schema", document)) == load_space(document).json_schema()


def test_schema_without_a_space_is_that_of_a_sweep_file(repository):
    schema = json.loads(ravel_space("schema"))
    jsonschema.Draft202012Validator.check_schema(schema)
    for path in sorted((repository / "examples").glob("*.yaml")):
        SWEEP.validate(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "nmae: x",
        "name: Not A Folder",
        "{name: x, trial: {epoch: 3}}",
        "{name: x, search: {num_trails: 3}}",
        "{name: x, search: {num_trials: 0}}",
        "{name: x, objective: {mode: maximum}}",
        "{name: x, space: {use: [snll]}}",
        "{name: x, space: {parameters: {optimizer.lr: {flaot: [0, 1]}}}}",
    ],
)
def test_a_sweep_that_is_refused_does_not_satisfy_the_schema(text):
    with pytest.raises(SpecError):
        parse_spec(text)
    assert not SWEEP.is_valid(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "catalog:mixpu"], "catalog:mixpu: no such fragment; did you mean 'mixup'?"),
        (["show", "catalog:zebra"], "catalog:zebra: no such fragment; known: optimizer, sgd"),
        (["sample", "nowhere.yaml"], "nowhere.yaml: cannot be read: No such file or directory"),
        (["sample", "mixup"], "mixup: cannot be read: No such file or directory; did you mean 'catalog:mixup'?"),
        (["sample", "{here}/emty.yaml"], "; did you mean '{here}/empty.yaml'?"),
        (["show", "{here}"], "{here}: cannot be read: Is a directory"),
        (["show", "{here}/latin.yaml"], "{here}/latin.yaml: cannot be read: 'utf-8' codec"),
        (
            ["corners", "{here}/wrong.yaml"],
            "{here}/wrong.yaml: space.parameters.lr: unknown domain 'flaot'; did you mean",
        ),
        (["diff", "catalog:pgd", "{here}/wrong.yaml"], "{here}/wrong.yaml: space.parameters.lr: unknown domain"),
        (
            ["show", "{here}/spec.yaml"],
            "{here}/spec.yaml: search.num_trails: unknown field; did you mean 'num_trials'?",
        ),
        (["show", "{here}/neither.yaml"], "got 'paramters'; did you mean 'parameters'?"),
        (["show", "{here}/open.yaml"], "{here}/open.yaml:1:2: expected"),
        (["show", "{here}/open.json"], "{here}/open.json: JSON:1:2: Expecting"),
        (["sample", "{here}/empty.yaml"], "{here}/empty.yaml: constraints: 0 of 10,000 draws (0 %) satisfy"),
        (["sample", "{here}/log.yaml"], "{here}/log.yaml: constraint 'log(a) > -3': has no value where a = -"),
        (["corners", "{here}/log.yaml"], "{here}/log.yaml: constraint 'log(a) > -3': has no value where a = -1.0"),
        (["sample", "catalog:mixup", "-n", "0"], "Invalid value for '-n'"),
    ],
)
def test_a_wrong_argument_is_told_on_stderr_with_exit_code_2(wrong_files, monkeypatch, capsys, arguments, says):
    monkeypatch.setattr(sys, "argv", ["ravel", "space", *(each.format(here=wrong_files) for each in arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert says.format(here=wrong_files) in told.err
    assert told.out == ""


def test_a_space_whose_constraint_has_no_value_is_shown_and_then_refused(wrong_files, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ravel", "space", "show", f"{wrong_files}/log.yaml"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert "a float in [-1, 1]" in told.out
    assert "has no value where a = -" in told.err


def test_looking_at_a_space_loads_no_heavy_library():
    code = (
        "import sys; from orchestrator.cli.spaces import app; app(['show', 'catalog:regularizers'], "
        "standalone_mode=False); print(sorted({'torch', 'ray', 'mlflow', 'optuna', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
