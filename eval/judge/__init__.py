"""A judge: a model behind an OpenAI-compatible endpoint that grades answers and compares them in pairs."""
