"""One forward pass for many poolings and depths of a model and prompt, and a cache of the vectors."""
