"""Quality gates: what keeps a bad pair out of the file, one small class each."""
