"""GPUs of this machine and their driver, from nvidia-smi, and the CUDA that torch was built for, without torch."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.doctor.finding import Finding, fail, ok, skipped, warn

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER_S = 8.0
QUERY = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
DRIVER_FOLDER = Path("/proc/driver/nvidia")


def gpu_findings() -> Iterator[Finding]:
    """Yield the findings on GPUs, their driver and torch's build."""
    command = shutil.which("nvidia-smi")
    if command is None:
        if DRIVER_FOLDER.exists():
            yield warn("gpu", "an NVIDIA driver runs, and nvidia-smi is not here", "install nvidia-smi of that driver")
        else:
            yield skipped("gpu", "no NVIDIA driver here; trials use the processors")
        return
    try:
        asked = subprocess.run([command, *QUERY], capture_output=True, text=True, timeout=ANSWER_S, check=False)  # noqa: S603
        header = subprocess.run([command], capture_output=True, text=True, timeout=ANSWER_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        yield fail("gpu", f"nvidia-smi does not answer within {ANSWER_S:g} s", "restart the machine: its driver hangs")
        return
    if asked.returncode:
        reason = (asked.stdout + asked.stderr).strip().partition("\n")[0]
        yield fail("gpu", f"nvidia-smi fails ({reason})", "reinstall the driver of the running kernel, and restart")
        return
    rows = [line for line in asked.stdout.splitlines() if line.strip()]
    yield from (ok(f"gpu {index}", line) for index, line in enumerate(rows))
    yield build_finding(torch_cuda(), driver_cuda(header.stdout))


def driver_cuda(header: str) -> str | None:
    """Return the newest CUDA that the driver supports, from the header of nvidia-smi.

    >>> driver_cuda("| NVIDIA-SMI 550.54   Driver Version: 550.54   CUDA Version: 12.4 |")
    '12.4'
    """
    match = re.search(r"CUDA Version:\s*(\d+\.\d+)", header)
    return match[1] if match else None


def torch_cuda() -> str | None:
    """Return the CUDA that the installed torch was built for, "" for a build without, None without torch."""
    spec = importlib.util.find_spec("torch")
    for folder in [] if spec is None else spec.submodule_search_locations or []:
        try:
            text = (Path(folder) / "version.py").read_text(encoding="utf-8")
        except OSError:
            return None
        match = re.search(r"^cuda(?:: [^=]*)? = '([\d.]+)'", text, re.MULTILINE)
        return match[1] if match else ""
    return None


def build_finding(built_for: str | None, supported: str | None) -> Finding:
    """Return the finding on torch's build for a machine with GPUs.

    >>> print(build_finding("", "12.4"))
    FAIL torch: built without CUDA, so trials cannot use the GPUs; pip install torch from the index of a CUDA build
    >>> print(build_finding("13.0", "12.4"))
    FAIL torch: built for CUDA 13.0, the driver supports up to 12.4; update the driver, or install torch for CUDA 12
    """
    if built_for is None:
        return skipped("torch", "not installed")
    if not built_for:
        fix = "pip install torch from the index of a CUDA build"
        return fail("torch", "built without CUDA, so trials cannot use the GPUs", fix)
    if supported is not None and int(built_for.partition(".")[0]) > int(supported.partition(".")[0]):
        major = supported.partition(".")[0]
        text = f"built for CUDA {built_for}, the driver supports up to {supported}"
        return fail("torch", text, f"update the driver, or install torch for CUDA {major}")
    return ok("torch", f"built for CUDA {built_for}, the driver supports up to {supported or 'an unknown version'}")
