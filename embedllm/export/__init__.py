"""Export: a folder that sentence-transformers loads with its stock modules, checked before it is there."""

from embedllm.export.hub import PushError, check_push, push
from embedllm.export.verification import Check, VerificationError, VerifyReport, verify
from embedllm.export.writer import export

__all__ = ["Check", "PushError", "VerificationError", "VerifyReport", "check_push", "export", "push", "verify"]
