"""The commands of ``embedllm``: each module adds its own to the parser, and imports what is slow when it runs."""
