"""Rows of the section `dose` by what a weight does, and what the section says of them."""

import importlib
import random

ACCURATE = "entangled networks are more accurate"


def rows(dose, *, entangles, gains=lambda _recipe: 0.0, control_entangles=0.0, has_test=True):
    """Return a row of every unit, by what a weight does to entanglement and accuracy; -1 and less costs 5 points."""
    section = importlib.import_module("section")
    outliers = {"mnist": ("notmnist",), "digits": ("permuted", "rotated")}
    found = []
    for unit in dose.section.units("whole"):
        recipe = dose.grid.Recipe(**unit.settings["recipe"])
        noise = random.Random(unit.name)
        is_control = recipe.penalty != dose.grid.SNNL
        raised = control_entangles if is_control else entangles(recipe.weight)
        cost = 0.05 if recipe.weight <= -1 else 0.0
        accuracy = 0.95 - cost
        values = {"val/accuracy": [accuracy + noise.gauss(0, 0.001) for _ in range(5)]}
        values |= {f"val/length_{tap}": [100.0] * 5 for tap in dose.grid.LAYERS}
        for images in ("val", "test") if has_test else ("val",):
            for tap in ("", "_conv1", "_conv2", "_penultimate", "_chance"):
                values[f"{images}/entanglement{tap}"] = [0.5 + raised + noise.gauss(0, 0.01) for _ in range(5)]
        if has_test:
            gain = gains(recipe)
            names = ["test/accuracy", "test/scored_accuracy", "test/nll", "test/ece", "test/brier", "fgsm", "pgd-20"]
            names += ["dknn/credibility", "dknn/credibility_fgsm"]
            for kind in outliers[recipe.data]:
                names += [f"dknn/credibility_{kind}"]
                scores = ("msp", "energy", "credibility", "conformity", "own_votes", "knn", "mahalanobis")
                names += [f"ood/{kind}_{score}_auroc" for score in scores]
            values |= {name: [0.8 + noise.gauss(0, 0.002) for _ in range(5)] for name in names}
            values["test/accuracy"] = [0.8 + gain + noise.gauss(0, 0.002) for _ in range(5)]
            values["pgd-20"] = [0.3 + noise.gauss(0, 0.01) for _ in range(5)]
        matrix = [[0.5 + noise.gauss(0, 0.02) for _ in range(5)] for _ in range(5)]
        low = [[0.05 + noise.gauss(0, 0.02) for _ in range(5)] for _ in range(5)]
        right = "".join(str(min(5, int(5 * (0.8 + gain) + noise.random()))) for _ in range(2000)) if has_test else ""
        by_image = {"right": right}
        for name in ("above", "below", "credibility_outliers", "credibility_fgsm") if has_test else ():
            by_image[name] = [noise.random() for _ in range(100)]
        metrics = {"values": values, "by_image": by_image, "diverged": [], "transfer": matrix, "noise": low}
        machine = {"processor": "one", "threads": 1, "torch": "2", "precision": "float32"}
        found.append(section.Row(unit, metrics, 1.0, machine))
    return found


def from_a_tenth(weight):
    return 0.4 if weight <= -0.1 else -0.2 if weight >= 0.1 else 0.0


def claims(dose, measured):
    return importlib.import_module("questions").claims_of(dose.section.questions(measured), measured)


def conclusions(dose, measured):
    return dose.evidence.contents(dose.section, measured)["dose conclusions"]
