"""Files of users' own modules: what the workers of a cluster need to import them.

A module in the folder of the launch is sent with the modules that it imports from there, wherever the import stands. A
package is sent as a whole. Folders of results, data and environments, and hidden files, are never sent.
"""

from __future__ import annotations

import ast
import importlib.util
import os
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import cut
from orchestrator.planning.provenance import changed_code, names_of
from trainables.config.adversarial import ATTACK_GROUP
from trainables.config.regularizers import REGISTRY as REGULARIZER_GROUP
from trainables.config.sections import DATA_GROUP, MODEL_GROUP
from trainables.import_paths import is_import_path, is_own_file, registered
from trainables.tasks.registry import GROUP as TASK_GROUP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from orchestrator.planning.provenance import Provenance
    from orchestrator.spec.model import SweepSpec

MAX_BYTES = 50_000_000
LARGEST = 3
TRIALS = "trials that continue"
SKIPPED = frozenset({"__pycache__", "mlartifacts", "mlruns", "node_modules", "results", "site-packages"})
"""Folders of a package that are not sent, next to hidden ones, environments, and `data` unless it is a package."""


GROUPS = (MODEL_GROUP, DATA_GROUP, ATTACK_GROUP, REGULARIZER_GROUP, TASK_GROUP)
"""Entry point groups in which packages register names."""


def own_modules(spec: SweepSpec) -> tuple[str, ...]:
    """Return the modules that a spec names, by import path or by a name that a package registers.

    >>> from orchestrator.spec.model import SweepSpec
    >>> own_modules(SweepSpec(name="mine", trial={"task": "training:train"}, objective="loss min"))
    ('training',)
    """
    paths = {name: path for group in GROUPS for name, path in registered(group).items()}
    named = (path for name in names_of(spec) if (path := name if is_import_path(name) else paths.get(name)))
    return tuple(dict.fromkeys(path.partition(":")[0] for path in named))


def deciding_modules(spec: SweepSpec) -> dict[str, str]:
    """Return the modules of a user's own sampler and scheduler, which the driver imports, and no trial.

    >>> from orchestrator.spec.model import SweepSpec
    >>> deciding_modules(SweepSpec(name="mine", search={"sampler": "halton:propose"}))
    {'sampler': 'halton'}
    """
    codes = {"sampler": spec.search.own, "scheduler": spec.scheduler.own}
    return {
        kind: code.name.partition(":")[0]
        for kind, code in codes.items()
        if code is not None and is_import_path(code.name)
    }


def code_changes(launched: Provenance, spec: SweepSpec, folder: Path) -> list[str]:
    """Return a line for each of the user's modules that changed since the launch: it names what uses the new code."""
    deciders = {f"the {kind}": (module,) for kind, module in deciding_modules(spec).items()}
    modules = {TRIALS: own_modules(spec), **deciders}
    files = {user: set(own_files(imported, folder).values()) for user, imported in modules.items()}
    return [
        _change(name, [user for user, read in files.items() if folder / name in read])
        for name in changed_code(launched, folder)
    ]


def _change(module: str, users: Sequence[str]) -> str:
    """Return the line for a module that changed.

    >>> _change("halton.py", ["the sampler"])
    'halton.py changed since the launch; the sampler uses the new code'
    >>> _change("nets.py", ["trials that continue", "the scheduler"])
    'nets.py changed since the launch; trials that continue and the scheduler use the new code'
    """
    verb = "use" if len(users) > 1 or TRIALS in users else "uses"
    return f"{module} changed since the launch; {' and '.join(users) or 'what imports it'} {verb} the new code"


def own_files(modules: Iterable[str], folder: Path) -> dict[str, Path]:
    """Return the files of these modules of a folder, and of all that they import from it.

    Imports are read from the source, and nothing is imported: one inside a function counts, ``importlib`` does not.

    Args:
        modules: dotted names; those that are not in the folder are left out, as they are installed.
        folder: must be on ``sys.path``, or hold packages that are installed in place.

    Returns:
        Each file by its path below the folder from which it can be imported, such as ``nets/blocks.py``.
    """
    files: dict[str, Path] = {}
    seen, names = set[str](), list(modules)
    while names:
        root = _root_of(names.pop(), folder)
        if root is None or root[0] in seen:
            continue
        module, path = root
        seen.add(module)
        sent = dict(_files_of(module, path))
        files |= sent
        for file in sent.values():
            names += _imports_of(file, package=module if path.is_dir() else module.rpartition(".")[0])
    return dict(sorted(files.items()))


def size_problem(files: Mapping[str, Path], *, max_bytes: int = MAX_BYTES) -> str | None:
    """Return the message for files that are too large to be sent to a cluster, or None."""
    sizes = {name: path.stat().st_size for name, path in files.items()}
    total = sum(sizes.values())
    if total <= max_bytes:
        return None
    first, *others = sorted(sizes, key=lambda name: -sizes[name])[:LARGEST]
    largest = [first, *(name for name in others if sizes[name] > total / 20)]
    listed = ", ".join(f"{cut(name, 60)} ({_mb(sizes[name])})" for name in largest)
    requirement = f"your own modules must have at most {_mb(max_bytes)} to be sent to the cluster, got {_mb(total)}"
    return f"{requirement}; largest: {listed}; move data out of the package, or install it on every node"


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _root_of(name: str, folder: Path) -> tuple[str, Path] | None:
    """Return the outermost module with a file, and its file or package folder; None if it is not in the folder."""
    prefix, locations = "", None
    for part in name.split("."):
        prefix = f"{prefix}.{part}" if prefix else part
        try:
            spec = PathFinder.find_spec(prefix, locations) if locations else importlib.util.find_spec(prefix)
        except (ImportError, ValueError):  # such as __main__, which has no spec
            return None
        if spec is None:
            return None
        if spec.has_location and spec.origin is not None:
            file = Path(spec.origin)
            path = file if spec.submodule_search_locations is None else file.parent
            return (prefix, path) if is_own_file(file, folder) else None
        if spec.submodule_search_locations is None:  # built into Python
            return None
        locations = list(spec.submodule_search_locations)
    return None


def _files_of(module: str, path: Path) -> Iterator[tuple[str, Path]]:
    place = Path(*module.split("."))
    if path.is_file():
        yield place.with_name(path.name).as_posix(), path
        return
    for parent, folders, names in os.walk(path):
        here = Path(parent)
        folders[:] = sorted(name for name in folders if not _is_skipped(here / name))
        for name in sorted(names):
            file = here / name
            if not name.startswith(".") and file.suffix != ".pyc" and file.is_file():
                yield (place / file.relative_to(path)).as_posix(), file


def _is_skipped(folder: Path) -> bool:
    name = folder.name
    is_environment = (folder / "pyvenv.cfg").exists()
    is_data = name == "data" and not (folder / "__init__.py").exists()
    return name.startswith(".") or name in SKIPPED or name.endswith(".egg-info") or is_environment or is_data


def _imports_of(file: Path, *, package: str) -> Iterator[str]:
    """Yield the dotted names that a module imports; a name may be that of a module or of something in it."""
    if file.suffix != ".py":
        return
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # the import of it fails, and says so
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: -node.level + 1 or None] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)
