"""The words of each language that deciding and rewriting use, one YAML file a language; see `lexicon.py`."""
