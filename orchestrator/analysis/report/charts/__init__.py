"""Figures of a report: charts as values, static SVG, and which of many trials a chart shows."""
