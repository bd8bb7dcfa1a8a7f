"""Input mixup and manifold mixup: accuracy, likelihood, deformed images, and FGSM with PGD next to it.

Verma et al., 2019, tables 1, 4, 5, 6, 7 and 9. Two data sets: 1,000 labels of Fashion-MNIST, on which the network
overfits and mixup should help, and a fifth of CIFAR-10 with a narrow network of the paper's kind. The predictions and
checks, in `questions`, were written before the whole size was measured.
"""

from collections.abc import Iterator, Mapping, Sequence

from section import JSON, Places, Row, Section, Unit, described
from sections.mixtures import measures
from sections.mixtures.budgets import FEW, budgets_of, units
from sections.mixtures.predictions import Values
from sections.mixtures.published import ATTACKED, DEFORMED, ERRORS
from sections.mixtures.questions import all_questions
from sections.mixtures.tables import Column, by_method
from sections.mixtures.trials import Budget, trained, trial


def measure(unit: Unit, places: Places) -> Mapping[str, JSON]:
    """Train a unit and measure it."""
    network = trained(trial(unit.settings, places.data_root), validation=unit.settings["validation"])
    return measures.measured(network, unit.settings)


def write(rows: Sequence[Row]) -> Mapping[str, str]:
    """Return the tables of both data sets."""
    own = [(budget, Values(rows, budget.data)) for budget in budgets_of(rows)]
    parts = {
        "accuracy": [part for budget, values in own for part in accuracy(budget, values)],
        "deformations": [part for budget, values in own for part in deformed(budget, values)],
        "attacks": [part for budget, values in own for part in attacked(budget, values, rows)],
    }
    head = (
        f"{described(rows)}. After ± is the half width of the 95 % interval over seeds; in brackets that over images."
    )
    parts["accuracy"].insert(0, head)
    return {f"mixtures {name}": "\n\n".join(texts) for name, texts in parts.items()}


def accuracy(budget: Budget, values: Values) -> Iterator[str]:
    """Yield the title and the table of accuracy, likelihood and the checks."""
    yield f"### {budget.title}, {values.num_seeds} seeds"
    columns = [
        Column("test accuracy", "test/accuracy", "test/images"),
        Column("NLL, nats", "test/nll"),
        Column("NLL after temperature", "test/nll_scaled"),
        Column("ECE", "test/ece"),
        Column("training accuracy", "train/accuracy"),
        Column("rise of the validation NLL", "overfit_nats"),
        *(Column(f"mixtures at {name}, nats", f"mixture/{name}") for name in ("input", *budget.hidden)),
    ]
    published = {label: [*cells, *["-"] * (len(columns) - 2)] for label, cells in ERRORS.items()}
    yield by_method(values, columns, published if budget.data != FEW.data else None)


def deformed(budget: Budget, values: Values) -> Iterator[str]:
    """Yield the title and the tables of accuracy on deformed images."""
    yield f"### {budget.title}: deformed images"
    names = [f"{family}@{amount:g}" for family, amounts in measures.PAPER_BETTER.items() for amount in amounts]
    columns = [Column("mean", "deformation/mean", "images")]
    columns += [Column(name.replace("@", " "), f"deformation/{name}", "images") for name in names]
    published = {label: ["-", *(f"{by_name[name] / 100:.4g}" for name in names)] for label, by_name in DEFORMED.items()}
    yield by_method(values, columns, published if budget.data != FEW.data else None)


def attacked(budget: Budget, values: Values, rows: Sequence[Row]) -> Iterator[str]:
    """Yield the title and the table of accuracy under attack."""
    settings = next(row.settings for row in rows if row.settings["data"] == budget.data)
    yield f"### {budget.title}: attacks, {int(values.mean(values.methods[0], 'attacked/images')):,} images"
    share = "attacked/images"
    columns = [Column("not attacked", "attacked/clean", share)]
    columns += [Column(f"FGSM {_255(radius)}", f"fgsm@{radius:.4g}", share) for radius in settings["fgsm"]]
    columns.append(Column(f"PGD-{settings['pgd_steps']} {_255(settings['radius'])}", "pgd", share))
    yield by_method(values, columns)
    if budget.data != FEW.data:
        yield ATTACKED


def _255(radius: float) -> str:
    return f"{radius * 255:.3g}/255"


SECTION = Section(
    name="mixtures",
    title="Input mixup and manifold mixup",
    units=units,
    measure=measure,
    write=write,
    questions=all_questions,
)
