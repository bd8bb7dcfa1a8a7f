"""Write fab_torchattacks.json with torchattacks 3.5.1, whose FAB is adapted from the authors' code.

pip install --no-deps --target /tmp/torchattacks torchattacks==3.5.1
PYTHONPATH=/tmp/torchattacks python tests/vectors/make_fab_vectors.py
"""

import json
from pathlib import Path

import torch
from torch import nn
from torchattacks.attacks.fab import FAB, projection_l2, projection_linf

STEPS = 20
PROJECTIONS = {"linf": projection_linf, "l2": projection_l2}


def network():
    """Two layers with weights of two decimals, so that the file holds them exactly."""
    weights = [(torch.randn(14, 25) * 0.9).round(decimals=2), (torch.randn(5, 14) * 0.8).round(decimals=2)]
    biases = [(torch.randn(14) * 0.3 - weights[0].sum(1) / 2).round(decimals=2), torch.zeros(5)]
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 14), nn.Tanh(), nn.Linear(14, 5)).eval()
    for layer, weight, bias in zip((model[1], model[3]), weights, biases, strict=True):
        layer.weight.data, layer.bias.data = weight, bias
    return model


def distances(model, x, y, attacked, *, norm):
    """Distance to each attacked image, or None where it is not misclassified."""
    order = {"linf": torch.inf, "l2": 2}[norm]
    lengths = torch.linalg.vector_norm((attacked - x).flatten(1), order, dim=1).tolist()
    fooled = (model(attacked).argmax(1) != y).tolist()
    return [length if is_fooled else None for length, is_fooled in zip(lengths, fooled, strict=True)]


def nearest(rows):
    """Smallest distance of each image over the rows."""
    return [min((value for value in column if value is not None), default=None) for column in zip(*rows, strict=True)]


def runs(model, x, y, *, norm):
    """Distances of one run without a random start, and of one for each other class."""
    attack = FAB(model, norm={"linf": "Linf", "l2": "L2"}[norm], steps=STEPS, n_classes=5)
    attack.device = torch.device("cpu")
    untargeted = distances(model, x, y, attack.attack_single_run(x, y), norm=norm)
    attack.multi_targeted, targeted = True, []
    for rank in range(2, 6):
        attack.target_class = rank
        targeted.append(distances(model, x, y, attack.attack_single_run_targeted(x, y), norm=norm))
    return {"untargeted": untargeted, "targeted": nearest(targeted)}


def projections(*, norm):
    """Steps from points in the box to planes that are near, far and out of reach."""
    points, normals = torch.rand(40, 9).round(decimals=3), torch.randn(40, 9).round(decimals=3)
    normals[::4, 2] = 0
    values = torch.randn(40) * torch.tensor([0.05, 0.5, 1.5, 9.0]).repeat(10)
    offsets = ((normals * points).sum(1) - values).round(decimals=3)
    steps = PROJECTIONS[norm](points.double(), normals.double(), offsets.double())
    tensors = {"points": points, "normals": normals, "offsets": offsets, "steps": steps}
    return {name: tensor.tolist() for name, tensor in tensors.items()}


def rounded(value):
    """Numbers of seven decimals."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, 7) if isinstance(value, float) else value


def main():
    """Write the file next to this one."""
    torch.manual_seed(0)
    model, x = network(), torch.rand(24, 1, 5, 5).round(decimals=2)
    y = model(x).argmax(1)
    y[0] = (y[0] + 1) % 5  # misclassified
    document = {
        "network": {
            name: value.tolist() for name, value in zip(("W1", "b1", "W2", "b2"), model.parameters(), strict=True)
        },
        "x": x.flatten(1).tolist(),
        "y": y.tolist(),
        "steps": STEPS,
        "distances": {norm: runs(model, x, y, norm=norm) for norm in PROJECTIONS},
        "projections": {norm: projections(norm=norm) for norm in PROJECTIONS},
    }
    text = json.dumps(rounded(document), separators=(",", ":"))
    (Path(__file__).parent / "fab_torchattacks.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
