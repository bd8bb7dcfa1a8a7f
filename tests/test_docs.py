"""What the pages say about the registries is what the registries hold, and their examples run."""

import doctest
import re

import pytest

import search_spaces
from trainables.config.trial import ModelConfig, TrialConfig
from trainables.data.sources import SOURCES
from trainables.models import MODELS, build
from trainables.regularizers.presets import PRESETS


@pytest.fixture(scope="module")
def rows(repository):
    """The tables of the page: each row's first cell's names to its second cell."""
    lines = (repository / "docs" / "training.md").read_text().splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("| `")]
    return {name: row[1].strip() for row in cells for name in re.findall(r"`([a-z0-9_]+)`", row[0])}


@pytest.mark.parametrize("name", MODELS)
def test_the_page_lists_the_taps_of_every_model(rows, name):
    model = build(ModelConfig(name=name), image_shape=(3, 32, 32), num_classes=10, device="meta")
    assert rows[name].split(", ") == list(model.taps[:-1])


@pytest.mark.parametrize("name", SOURCES)
def test_the_page_lists_every_data_set(rows, name):
    assert name in rows


@pytest.mark.parametrize("name", PRESETS)
def test_the_page_names_every_preset(repository, name):
    assert f"`{name}`" in (repository / "docs" / "training.md").read_text()


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs" / "search_spaces.md").read_text()


def test_every_example_of_the_page_on_search_spaces_runs(page):
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL))
    example = doctest.DocTestParser().get_doctest(code, {}, "docs/search_spaces.md", None, None)
    result = doctest.DocTestRunner(verbose=False).run(example)
    assert result.failed == 0
    assert result.attempted > 25


def test_the_document_of_the_page_is_a_space_whose_points_are_trials(page):
    text = next(block for block in re.findall(r"^```yaml\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL))
    space = search_spaces.SearchSpace.from_yaml(text)
    for point in [*space.corners(), *space.sample_many(100)]:
        TrialConfig.from_point(point)


@pytest.fixture(scope="module")
def columns(page):
    """The migration table: for each library the code of its cells, row by row; None where it cannot."""
    table = [line.strip("|").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    header = next(row for row in table if "Ray Tune" in row)
    rows = [row for row in table[table.index(header) + 1 :] if len(row) == len(header)]
    cells = [
        [found.group(1) if (found := re.fullmatch(r" ?`([^`]+)` ?", cell)) else None for cell in row] for row in rows
    ]
    return {name.strip(): [row[place] for row in cells] for place, name in enumerate(header)}


@pytest.fixture(scope="module")
def ours(columns):
    *entries, constraints = columns["here"]
    names = dict(vars(search_spaces))
    when = {"optimizer.momentum": search_spaces.When("optimizer.name", "sgd")}
    parameters = eval("{" + ", ".join(entries) + "}", names)  # noqa: S307 - our own page
    return eval(f"SearchSpace(parameters, when, {constraints})", {**names, "parameters": parameters, "when": when})  # noqa: S307


def test_the_migration_table_has_a_cell_of_ours_for_every_row(columns, ours):
    assert len(columns["here"]) == 8
    assert all(columns["here"])
    assert ours.contains(ours.sample(seed=0))


def test_the_cells_of_ray_tune_draw_from_the_ranges_of_ours(columns, ours):
    from ray import tune

    said = eval("{" + ", ".join(cell for cell in columns["Ray Tune"] if cell) + "}", {"tune": tune})  # noqa: S307
    assert set(said) == {"optimizer.name", "optimizer.lr", "adversarial.steps", "adversarial.relative_step"}
    for name, domain in said.items():
        assert all(ours.parameters[name].contains(domain.sample()) for _ in range(50))


def test_the_cells_of_optuna_draw_points_of_ours(columns, ours):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(50):
        names = {"trial": study.ask()}
        exec("\n".join(columns["Optuna"]), names)  # noqa: S102 - our own page
        params = names["trial"].params
        point = {name: value for name, value in params.items() if name in ours.names}
        point |= {"mixup.alpha": names["alpha"], "snnl.weight": names["weight"]}
        assert ours.contains(point) is (names["trial"].constraints == {"reach": 0.0})


def test_the_cells_of_configspace_draw_points_of_what_they_can_say(columns, ours):
    import ConfigSpace

    names = dict(vars(ConfigSpace)) | {"cs": ConfigSpace.ConfigurationSpace(seed=0)}
    exec("\n".join(cell for cell in columns["ConfigSpace"] if cell), names)  # noqa: S102 - our own page
    for configuration in names["cs"].sample_configuration(50):
        point = {"mixup.alpha": 0.0, **{name: value for name, value in configuration.items() if name in ours.names}}
        plain = {name: getattr(value, "item", lambda value=value: value)() for name, value in point.items()}
        free = search_spaces.SearchSpace(ours.parameters, ours.when).drop("snnl.weight")
        assert free.problems(plain) == []


@pytest.fixture(scope="module")
def scheduling(repository):
    return (repository / "docs" / "scheduling.md").read_text()


def test_the_page_on_scheduling_has_a_row_for_every_field(scheduling):
    from orchestrator.spec.model import SchedulerSpec

    assert re.findall(r"^\| `([a-z_]+)` \|", scheduling, flags=re.MULTILINE) == list(SchedulerSpec.model_fields)


def test_every_scheduler_of_the_page_is_one_and_the_default_is_the_one_it_says(scheduling):
    from orchestrator.planning.loading import parse_spec

    blocks = re.findall(r"^```yaml\n(.*?)^```$", scheduling, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 2
    specs = [parse_spec(f"name: page\n{block}") for block in blocks]
    assert specs[0].scheduler == parse_spec("name: page").scheduler


def test_the_rung_schedule_of_the_page_is_the_one_a_spec_gets(scheduling):
    from orchestrator.planning.loading import parse_spec
    from orchestrator.scheduling.registry import rung_schedule_of

    assert "64 trials of 27 epochs at 0.3 have rungs 3, 4, 7, 10, 15 and 23" in scheduling
    spec = parse_spec("name: page\ntrial: {epochs: 27}\nsearch: {num_trials: 64}")
    assert rung_schedule_of(spec, max_epochs=27).rungs == (3, 4, 7, 10, 15, 23)


def test_every_path_that_the_architecture_names_is_in_the_repository(repository):
    text = (repository / "docs" / "architecture.md").read_text()
    paths = re.findall(r"`((?:orchestrator|search_spaces|trainables|tests|docs|benchmarks)/[\w/.]*)`", text)
    assert len(paths) > 30
    assert [path for path in paths if not (repository / path).exists()] == []


@pytest.mark.parametrize(
    ("heading", "package"),
    [("`orchestrator/`", "orchestrator"), ("`search_spaces/`", "search_spaces"), ("`trainables/`", "trainables")],
)
def test_the_architecture_names_every_room(heading, package, repository):
    text = (repository / "docs" / "architecture.md").read_text()
    section = text.partition(f"## Rooms of {heading}")[2].partition("\n## ")[0]
    entries = (repository / package).iterdir()
    rooms = {f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries if entry.name[0] not in "_."}
    assert {room for room in rooms - {"py.typed"} if f"`{room}`" not in section} == set()


def anchors(text):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_of_the_pages_leads_to_a_file_and_to_a_heading_of_it(repository):
    pages = [*repository.glob("*.md"), *repository.glob("docs/**/*.md"), *repository.glob("infra/**/*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())]
    inside = [(page, *link.partition("#")[::2]) for page, link in links if not link.startswith("http")]
    assert len(inside) > 100
    broken = []
    for page, path, anchor in inside:
        target = page.parent / path if path else page
        if target.is_relative_to(repository / "docs/reference"):  # made when the site is built: test_site.py
            continue
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append((page.name, path, anchor))
    assert broken == []


def test_the_page_on_clusters_has_the_settings_that_were_run(repository):
    code = (repository / "infra" / "netns" / "cluster.py").read_text()
    run = re.findall(r'"(RAY_\w+_ms|RAY_\w+_threshold)": "(\d+)"', code)
    assert len(run) == 4
    page = (repository / "docs" / "cluster.md").read_text()
    assert [f"{name}={value}" for name, value in run if f"{name}={value}" not in page] == []
