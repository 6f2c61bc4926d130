"""Scoring an embedder with MTEB, on Hub tasks and on local files."""
