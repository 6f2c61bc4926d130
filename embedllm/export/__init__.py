"""Export: a folder that sentence-transformers loads with its stock modules, checked before it is there."""

from embedllm.export.verification import Check, VerificationError, VerifyReport, verify
from embedllm.export.writer import export

__all__ = ["Check", "VerificationError", "VerifyReport", "export", "verify"]
