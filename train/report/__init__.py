"""The report of a training run: `train.html` in the run's folder."""
