"""The event log as MLflow shows it, and everything else that talks to MLflow: the one package that imports it."""

from orchestrator.redaction import DEFAULT_URI, one_line, server_address, tracking_uri, without_password
from orchestrator.tracking.cursor import Cursor
from orchestrator.tracking.tracker import Tracker

__all__ = ["DEFAULT_URI", "Cursor", "Tracker", "one_line", "server_address", "tracking_uri", "without_password"]
