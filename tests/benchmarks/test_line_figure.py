"""Figures as SVG: places of values, intervals and labels."""

import importlib
import re

import pytest

pytestmark = pytest.mark.usefixtures("evidence")


def test_a_figure_places_values_on_its_axes_and_keeps_them_within():
    figures = importlib.import_module("line_figure")
    point = figures.Point
    straight = figures.Line("a < b", [point(0, 0.0), point(10, 1.0), point(5, 9.0)], "#000", dashed=True)
    curved = figures.Line("a legend that is so long that it takes the place of two", [point(5, 0.01, 0.5)], "#111")
    x = figures.Axis("epoch", 0, 10, [0, 10], ["first", "last"])
    log = figures.Axis("share", 1e-4, 1, [1e-4, 1], is_log=True)
    panels = [
        figures.Panel("one", x, figures.linear("share", 1, 0.5), [straight]),
        figures.Panel("two", x, log, [curved]),
    ]
    svg = figures.figure(panels, words="what is shown")
    left, top = figures.LEFT, figures.TOP
    right, bottom, middle = left + figures.WIDTH, top + figures.HEIGHT, left + figures.WIDTH / 2
    assert f"M{left:.1f},{bottom:.1f}L{right:.1f},{top:.1f}L{middle:.1f},{top:.1f}" in svg
    half_up = middle + figures.LEFT + figures.WIDTH, top + figures.HEIGHT / 2
    assert f"M{half_up[0]:.1f},{half_up[1]:.1f}" in svg, "0.01 is half way from 0.0001 to 1"
    assert f"M{half_up[0]:.1f},{bottom:.1f}V" in svg, "an interval ends on the edge"
    assert "a &lt; b" in svg
    assert "stroke-dasharray" in svg
    assert ">first</text>" in svg
    assert "<title>what is shown</title>" in svg
    width = float(svg.split('width="')[1].split('"')[0])
    assert all(float(own.split('"')[0]) < width for own in svg.split('<text x="')[1:])


def test_a_figure_is_so_wide_that_labels_of_an_axis_do_not_meet():
    figures = importlib.import_module("line_figure")
    labels = ["-0.1", "-0.03", "-0.01", *"12345678"]
    x = figures.Axis("weight", -0.5, len(labels) - 0.5, range(len(labels)), labels)
    line = figures.Line("accuracy", [figures.Point(place, 0.5) for place in range(len(labels))], "#000")
    svg = figures.figure([figures.Panel("one", x, figures.linear("share", 1, 0.5), [line])], words="what is shown")
    left = {text: float(svg.split(f">{text}</text>")[0].split('<text x="')[-1].split('"')[0]) for text in labels[1:3]}
    assert left["-0.01"] - left["-0.03"] > figures.LETTER * len("-0.03"), "both are centred on their ticks"


def drawn(*, has_band):
    figures = importlib.import_module("line_figure")
    points = [figures.Point(0, 0.5, 0.25), figures.Point(10, 0.9, 0.25)]
    lines = [figures.Line(name, points, "#abc", has_band=has_band) for name in ("one", "other")]
    x, y = figures.linear("epoch", 10, 5), figures.linear("share", 1, 0.5)
    return figures, figures.figure([figures.Panel("", x, y, lines)], words="what is shown")


def test_a_band_is_between_the_ends_of_the_intervals_and_stays_on_the_axes():
    figures, svg = drawn(has_band=True)
    left, top, bottom = figures.LEFT, figures.TOP, figures.TOP + figures.HEIGHT
    right = left + figures.WIDTH
    upper = f"M{left:.1f},{top + figures.HEIGHT / 4:.1f}L{right:.1f},{top:.1f}"
    lower = f"L{right:.1f},{bottom - 0.65 * figures.HEIGHT:.1f}L{left:.1f},{bottom - figures.HEIGHT / 4:.1f}Z"
    assert svg.count(f'<path d="{upper}{lower}" fill="#abc" fill-opacity="{figures.BAND}"/>') == 2


def test_bands_are_under_all_lines_and_take_the_place_of_bars():
    _, svg = drawn(has_band=True)
    assert svg.rindex("fill-opacity") < svg.index('stroke="#abc"')
    bar = re.compile(r'd="M[\d.]+,[\d.]+V[\d.]+" stroke="#abc"')
    assert not bar.search(svg)
    _, bars = drawn(has_band=False)
    assert len(bar.findall(bars)) == 4
    assert "fill-opacity" not in bars
