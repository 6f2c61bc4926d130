"""What makes forward and backward passes fast and small without changing what they compute.

One module a method: dropout read from a tape of draws, the gradients of LoRA and RMSNorm written out, texts packed
into rows without padding, the prompt's first tokens read once, plain attention for short texts, a micro-batch for each
thread with sums that do not depend on their order, and memory that is used again.
"""
