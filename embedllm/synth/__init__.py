"""Make positive pairs out of raw texts: generators, quality gates, and a run that can be killed at any point."""
