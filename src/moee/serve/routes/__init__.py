"""Routes, a module for each API. They check, call the service and write the answer; nothing else."""
