"""Tables of a training step and its limit, from the results."""

from collections.abc import Mapping

from scale.markers import MISSING, table, with_extremes
from scale.results import Row, machines

Rows = Mapping[tuple[str, int], Row]
RUN = "`python benchmarks/step_limit.py {} --results benchmarks/limits/step_limit.jsonl`"
TITLES = {
    "plain": "plain",
    "snnl": "soft nearest neighbours",
    "mixup": "manifold mixup",
    "pgd": "PGD, 7 steps",
    "trades": "TRADES, 7 steps",
}
WAYS = ("step", "compiled", "compiled with graphs", "captured")


def tables(rows: Rows) -> dict[str, str]:
    """Return each table by the name of its markers, with its command above."""
    made = {
        "cpu": ("run", cpu_table(rows)),
        "slots": ("run", together_table(rows, "slots", "slots x threads of each")),
        "gpu": ("gpu", gpu_table(rows)),
        "packed": ("gpu", together_table(rows, "packed", "trials on the GPU x threads of each")),
    }
    blocks = {f"step limit {name}": f"{RUN.format(command)}\n\n{text}" for name, (command, text) in made.items()}
    return {**blocks, "step limit machines": machines(rows)}


def cpu_table(rows: Rows) -> str:
    """Return the steps on a CPU."""
    head = (
        "step",
        "",
        "threads",
        "limit, ms",
        "its GFLOP/s",
        "step, ms",
        "to the limit",
        "compiled, ms",
        "to the limit",
    )
    body = []
    for (method, precision, threads), row in _of(rows, "cpu"):
        limit_ms = row.values["limit_ms"]
        rate = f"{1e3 * row.values['gigaflops'] / limit_ms:,.0f}"
        cells = [cell for way in WAYS[:2] for cell in _way(row, way)]
        body.append((f"{TITLES[method]}{row.mark}", precision, str(threads), f"{limit_ms:.2f}", rate, *cells))
    return table(head, body)


def gpu_table(rows: Rows) -> str:
    """Return the steps on a GPU."""
    head = (
        "step",
        "limit, ms",
        *(word for way in WAYS for word in (f"{way}, ms", "to the limit")),
        "steps/s, captured",
    )
    body = []
    for (method, _, _), row in _of(rows, "gpu"):
        cells = [cell for way in WAYS for cell in _way(row, way)]
        fastest = f"{1e3 / row.values['captured_ms']:,.0f}" if "captured_ms" in row.values else MISSING
        limit = f"{row.values['limit_ms']:.2f}" if "limit_ms" in row.values else MISSING
        body.append((f"{TITLES[method]}{row.mark}", limit, *cells, fastest))
    return table(head, body)


def together_table(rows: Rows, kind: str, head: str) -> str:
    """Return the steps per second of trials that train at the same time, and their ratio to those of the first row."""
    body = []
    for (method, _, _), row in _of(rows, kind):
        places = [name for name in row.values if not name.endswith((" low", " high"))]
        body += [
            (
                f"{TITLES[method]}{row.mark}",
                place,
                with_extremes(row.values, place, ",.1f"),
                f"{row.values[place] / row.values[places[0]]:.2f}",
            )
            for place in places
        ]
    return table(("step", head, "steps/s of all", "to the first"), body)


def _of(rows: Rows, kind: str) -> list[tuple[tuple[str, str, int], Row]]:
    """Return the rows of a kind, each with its method, precision and size, in the order of the methods."""
    found = [
        ((*stage.split()[1:], "")[:2], size, row) for (stage, size), row in rows.items() if stage.split()[0] == kind
    ]
    order = list(TITLES)
    return [
        ((method, precision, size), row)
        for (method, precision), size, row in sorted(
            found, key=lambda item: (order.index(item[0][0]), item[0][1] != "float32", item[1])
        )
    ]


def _way(row: Row, way: str) -> tuple[str, str]:
    if f"{way}_ms" not in row.values:
        return "left out", ""
    ratio = f"{way} ratio"
    return f"{row.values[f'{way}_ms']:.2f}", with_extremes(row.values, ratio, ".2f") if ratio in row.values else ""
