"""What the bench measures once: a workload, at one size."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement: `what` at a batch size."""

    what: str
    batch: int
    prompt_tokens: int
    new_tokens: int
    repeats: int

    @property
    def label(self) -> str:
        """`what`, with the tokens before the answer where they differ between jobs."""
        return f"{self.what} after {self.prompt_tokens}" if self.what == "growth" else self.what
