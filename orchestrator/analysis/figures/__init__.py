"""Figures of a sweep from its plan and its event log, drawn by plotly: for ``ravel plot`` and ``sweep.plot``."""
