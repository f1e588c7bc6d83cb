"""What is on disk: headers of weight files, whether a checkpoint is supported, and its summary."""
