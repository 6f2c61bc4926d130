"""What the commands share."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = object

MODEL_HELP = "a run folder, a saved model folder, a decoder's folder or GGUF file, or a Hub id"
