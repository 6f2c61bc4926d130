"""Train and score an embedder: ``python train.py [-m] [setting=value ...]``; ``--help`` shows the settings."""

import sys

from embedllm.train import main

if __name__ == "__main__":
    sys.exit(main())
