"""Texts and pairs: files, augmenters and the embedded sets."""
