"""lm-evaluation-harness in process: its tasks on our engine.

`lm.py` is the harness's interface to a model, `definitions.py` finds the harness's tasks and their data, and `task.py`
makes each a task of `resonance eval`. Only `lm.py` imports the harness at its top: the harness is an optional extra and
takes seconds to load.
"""
