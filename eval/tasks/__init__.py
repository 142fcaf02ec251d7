"""The tasks of `resonance eval`: one class each, configured in `configs/task/`."""
