"""What ``embedllm doctor`` looks at: the machine, its packages and folders, the services, and a small self-test."""
