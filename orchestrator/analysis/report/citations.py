"""Papers of the methods that a sweep used: as short citations, a list of references, and BibTeX."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from trainables.tasks.registry import GAN, task_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from orchestrator.analysis.result import SweepResult

ENTRY = re.compile(r"^@\w+\{([^,]+),\n(.*?)^\}\n", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^  (\w+) = \{(.*)\},?$", re.MULTILINE)
ACCENTS = {r"{\'e}": "é", r"{\'a}": "á", r"{\"u}": "ü"}
SAMPLERS = {
    "auto": (
        "random search whose later points are screened by functions sampled from a Gaussian process",
        ("bergstra2012random", "thompson1933", "snoek2012gp"),
    ),
    "tpe": ("the tree-structured Parzen estimator", ("bergstra2011tpe", "akiba2019optuna")),
    "gp": ("Bayesian optimisation with a Gaussian process", ("snoek2012gp", "akiba2019optuna")),
    "cmaes": ("CMA-ES", ("hansen2001cmaes", "akiba2019optuna")),
    "nsga2": ("NSGA-II", ("deb2002nsga2", "akiba2019optuna")),
    "nsga3": ("NSGA-III", ("deb2014nsga3", "akiba2019optuna")),
    "qmc": ("a Sobol' sequence", ("sobol1967",)),
    "random": ("random search", ("bergstra2012random",)),
    "grid": ("a grid", ()),
}
SCHEDULERS = {
    "asha": ("asynchronous successive halving", ("li2020asha",)),
    "pasha": ("PASHA", ("bohdal2023pasha",)),
    "hyperband": ("asynchronous Hyperband", ("li2018hyperband", "li2020asha")),
    "pbt": ("population based training", ("jaderberg2017pbt",)),
    "median": ("the median stopping rule", ("golovin2017vizier",)),
}
ATTACKS = {
    "fgsm": ("FGSM", ("goodfellow2015fgsm",)),
    "fgsm_rs": ("FGSM from a random start", ("wong2020fast",)),
    "pgd": ("PGD", ("madry2018pgd",)),
    "trades": ("TRADES", ("zhang2019trades",)),
    "n_fgsm": ("N-FGSM", ("dejorge2022nfgsm",)),
    "mart": ("MART", ("wang2020mart",)),
}


@dataclass(frozen=True, slots=True)
class Paper:
    """Paper: its key, its fields in plain text, and its entry in BibTeX."""

    key: str
    authors: tuple[str, ...]
    year: str
    title: str
    place: str
    entry: str

    @property
    def short(self) -> str:
        """Citation in the text.

        >>> cited(("holm1979", "liaw2018tune"))
        ' (Holm, 1979; Liaw et al., 2018)'
        """
        first, *more = [author.partition(",")[0] for author in self.authors]
        names = first if not more else f"{first} and {more[0]}" if len(more) == 1 else f"{first} et al."
        return f"{names}, {self.year}"

    @property
    def line(self) -> str:
        """Reference in one line."""
        authors = "; ".join(self.authors)
        return f"{authors}{'' if authors.endswith('.') else '.'} {self.title}. {self.place}, {self.year}."


@cache
def papers() -> dict[str, Paper]:
    """Return all papers that a report may cite, by key."""
    text = (resources.files(__package__) / "papers.bib").read_text(encoding="utf-8")
    return {match[1]: _paper(match) for match in ENTRY.finditer(text)}


def cited(keys: Iterable[str]) -> str:
    """Return a citation in brackets, with a space before it; nothing for no paper."""
    short = "; ".join(papers()[key].short for key in keys)
    return f" ({short})" if short else ""


def methods_on(result: SweepResult) -> list[tuple[str, tuple[str, ...]]]:
    """Return the methods that some trial trained with, in words, with the keys of their papers."""
    return list(dict.fromkeys(_methods(result)))


def _methods(result: SweepResult) -> Iterator[tuple[str, tuple[str, ...]]]:
    configs = [trial.config for trial in result.state.trials.values()]
    if any(config.get("snnl.weight") for config in configs) or _is_gan_with_snnl(result):
        yield "the soft nearest neighbour loss", ("frosst2019snnl",)
    for config in (config for config in configs if config.get("mixup.alpha")):
        is_hidden = str(config.get("mixup.layers", "input")) != "input"
        kind = str(config.get("mixup.kind", "mixup"))
        if kind == "cutmix":
            yield "CutMix", ("yun2019cutmix",)
        elif kind == "mixup":
            yield ("manifold mixup", ("verma2019manifold",)) if is_hidden else ("mixup", ("zhang2018mixup",))
        else:
            yield f"the mixture {kind}", ()
    yield from _adversarial(configs)
    if any(config.get("loss.label_smoothing") for config in configs):
        yield "label smoothing", ("szegedy2016smoothing",)
    policies = {str(config.get("data.policy")) for config in configs}
    if "trivial" in policies:
        yield "TrivialAugment", ("muller2021trivial",)
    if "rand" in policies:
        yield "RandAugment", ("cubuk2020rand",)
    if any(config.get("data.erasing") for config in configs):
        yield "random erasing", ("zhong2020erasing",)
    if any(config.get("optimizer.name") == "adamw" for config in configs):
        yield "AdamW", ("loshchilov2019adamw",)
    if task_of(result.plan.spec.trial) is GAN:
        yield "a generative adversarial network trained by Adam", ("goodfellow2014gan", "kingma2015adam")


def _adversarial(configs: Sequence[Mapping[str, object]]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for config in (config for config in configs if config.get("adversarial.epsilon")):
        name = str(config.get("adversarial.attack"))
        attack, keys = ATTACKS.get(name, (name, ()))
        yield f"adversarial training with {attack}", keys
        if config.get("adversarial.awp_gamma"):
            yield "adversarial weight perturbation", ("wu2020awp",)
    if any(config.get("optimizer.sam_rho") for config in configs):
        yield "sharpness-aware minimisation", ("foret2021sam",)


def _is_gan_with_snnl(result: SweepResult) -> bool:
    names = ("gan.generator_snnl", "gan.discriminator_snnl")
    return any(trial.config.get(name) for trial in result.state.trials.values() for name in names)


def _paper(match: re.Match[str]) -> Paper:
    fields = dict(FIELD.findall(match[2]))
    place = next(fields[name] for name in ("booktitle", "journal", "howpublished") if name in fields)
    volume = f" {fields['volume']}" if "volume" in fields else ""
    pages = f", {fields['pages']}".replace("--", "-") if "pages" in fields else ""
    return Paper(
        key=match[1],
        authors=tuple(map(_plain, fields["author"].split(" and "))),
        year=fields["year"],
        title=_plain(fields["title"]),
        place=_plain(f"{place}{volume}{pages}"),
        entry=match[0].strip(),
    )


def _plain(text: str) -> str:
    for accent, letter in ACCENTS.items():
        text = text.replace(accent, letter)
    return text.replace("{", "").replace("}", "")
