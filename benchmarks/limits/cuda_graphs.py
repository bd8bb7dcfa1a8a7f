"""Ways to run a training step on a GPU: as it is, compiled, and captured in a CUDA graph."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from limits.products import recorded
from limits.steps_of import WARM_UP, Step, run_of, step_of

LEAST_CAPABILITY = (8, 0)
"""Compute capability from which on a GPU computes in bfloat16."""


def require_gpu() -> None:
    """Refuse to measure without a GPU that computes in bfloat16.

    Raises:
        SystemExit: there is none; says what is needed.
    """
    found = torch.cuda.get_device_capability() if torch.cuda.is_available() else None
    if found is None or found < LEAST_CAPABILITY:
        raise SystemExit(
            "gpu: needs an NVIDIA GPU of compute capability 8.0 or more (A100, H100, ...), with 16 GB free and no "
            f"other program on it, and a build of torch {torch.__version__.partition('+')[0]} with CUDA; got "
            f"{'no GPU that torch sees' if found is None else f'compute capability {found[0]}.{found[1]}'}"
        )


def ways_of(point: Mapping[str, Any], method: str) -> dict[str, Step]:
    """Return the ways to run a step of a method; one that this GPU or this build refuses is left out, with its reason.

    `limit` are the products alone, in a CUDA graph, so that no launch of a kernel is waited for.
    """
    products = recorded(_warm(step_of(run_of(point, method))))
    makers: Mapping[str, Callable[[], Step]] = {
        "limit": lambda: captured(products.repeat),
        "step": lambda: step_of(run_of(point, method)),
        "compiled": lambda: step_of(run_of(point, method, compile=True)),
        "compiled with graphs": lambda: _compiled_with_graphs(point, method),
        "captured": lambda: _captured_step(point, method),
    }
    ways = {}
    for name, make in makers.items():
        try:
            ways[name] = _warm(make())
        except RuntimeError as error:  # what is refused depends on the build: inductor, the driver, an operation
            print(f"{method}, {name}: left out: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
    return ways


def captured(step: Step, *generators: torch.Generator) -> Step:
    """Return a step that is captured in a CUDA graph: all it launches, in one launch, on the same tensors each time."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        _warm(step)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _captured_step(point: Mapping[str, Any], method: str) -> Step:
    """Capture a whole step on one batch: images, attack, loss, gradient and optimizer, at one rate."""
    run = run_of(point, method)
    indices_B = run.order()[0].to(run.placement.device)
    return captured(lambda: run._step(indices_B, step=1), run.streams.attack)  # noqa: SLF001  what is measured


def _compiled_with_graphs(point: Mapping[str, Any], method: str) -> Step:
    run = run_of(point, method)
    for part in run.model.chain().values():
        part.compile(mode="reduce-overhead")
    return step_of(run)


def _warm(step: Step) -> Step:
    for _ in range(WARM_UP):
        step()
    return step
