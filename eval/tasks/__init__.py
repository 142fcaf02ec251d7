"""The tasks of `resonance eval`: one small class each, made by its YAML in `configs/task/`."""
