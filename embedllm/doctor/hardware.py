"""What this machine computes on, and in which precision it is fast."""

import os
from pathlib import Path

import torch

from embedllm.backbone import has_fast_bfloat16, trains_fast_in_bfloat16
from embedllm.doctor.verdict import OK, WARN, Verdict
from embedllm.provenance import hardware

NVIDIA = Path("/proc/driver/nvidia/version")
FLASH_CAPABILITY = (8, 0)
"""Of the oldest GPUs that torch's flash attention runs on."""


def device() -> Verdict:
    """Return the accelerators, or the processor."""
    if torch.cuda.is_available():
        free, total = (size / 1e9 for size in torch.cuda.mem_get_info())
        return Verdict("device", OK, f"{hardware()}, {free:.0f} of {total:.0f} GB free")
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        return Verdict("device", OK, f"{accelerator.type}, {hardware()}")
    if NVIDIA.exists():
        return Verdict(
            "device",
            WARN,
            f"there is an NVIDIA GPU that torch {torch.__version__} cannot use; install a build with CUDA",
        )
    threads = torch.get_num_threads()
    return Verdict("device", OK, f"no accelerator; {hardware()}, {threads} thread{'s' if threads > 1 else ''}")


def precision() -> Verdict:
    """Return what ``auto`` stands for."""
    scores, trains = ("bfloat16" if fast else "float32" for fast in (has_fast_bfloat16(), trains_fast_in_bfloat16()))
    slow = "" if trains == "bfloat16" else "; bfloat16 is slow here"
    return Verdict("precision", OK, f"auto is {scores} for scores and {trains} for training{slow}")


def attention() -> Verdict:
    """Return which kernels attention has."""
    if not torch.cuda.is_available():
        return Verdict("attention", OK, f"torch's own; short texts by plain products on {os.cpu_count()} cores")
    capability = torch.cuda.get_device_capability()
    flash = torch.backends.cuda.is_flash_attention_available() and capability >= FLASH_CAPABILITY
    state, found = (OK, "flash attention") if flash else (WARN, "no flash attention, so long texts take more memory")
    return Verdict("attention", state, f"{found} (compute capability {capability[0]}.{capability[1]})")
