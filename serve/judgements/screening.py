"""Finds secrets and personal data in texts, by detect-secrets and presidio-analyzer's recognisers of patterns.

Both come with the extra `feedback`. Names of people are not looked for: that takes a model of language, and would leave
out most of what people write about.
"""

import logging
from collections.abc import Callable, Iterable
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from resonance.errors import ResonanceError

MIN_SCORE = 0.4  # of presidio's recognisers: a phone number without further hints has 0.4


class ScreeningError(ResonanceError):
    """The libraries that screen texts are not installed."""


class Screening:
    """Screens texts; the libraries are loaded at the first text."""

    def __init__(self) -> None:
        self._known: dict[str, list[str]] = {}
        missing = [name for name in ("presidio_analyzer", "detect_secrets") if find_spec(name) is None]
        if missing:
            raise ScreeningError(
                f"Secrets and personal data cannot be looked for without {' and '.join(missing)}: "
                "pip install 'resonance[feedback]', or say screen=false to write everything."
            )

    def findings(self, texts: Iterable[str]) -> list[str]:
        """The kinds of secrets and personal data in texts, each once, such as `EMAIL_ADDRESS` or `AWS Access Key`."""
        found: dict[str, None] = {}
        for text in texts:
            if text not in self._known:  # a correction is an example, a pair and a vote with the same texts
                self._known[text] = [*self._personal_data(text), *self._secrets(text)]
            found |= dict.fromkeys(self._known[text])
        return list(found)

    @cached_property
    def _personal_data(self) -> Callable[[str], list[str]]:
        logging.getLogger("tldextract").setLevel(logging.CRITICAL)  # it would fetch a newer list of domains
        from presidio_analyzer import Pattern, PatternRecognizer
        from presidio_analyzer import predefined_recognizers as known

        # As people write them in a chat; detect-secrets expects source code.
        patterns = [
            Pattern("said", r"(?i)\b(?:password|passphrase|pin|token|api[ _-]?key)\s*(?:is|=|:)\s*\S{4,}", 0.8),
            Pattern("key", r"\b(?:sk|pk|rsn)-[A-Za-z0-9_-]{20,}", 0.9),
        ]
        recognisers: list[Any] = [
            PatternRecognizer("SECRET", patterns=patterns),
            known.CreditCardRecognizer(),
            known.EmailRecognizer(),
            known.IbanRecognizer(),
            known.IpRecognizer(),
            known.PhoneRecognizer(),
            known.UsSsnRecognizer(),
        ]

        def find(text: str) -> list[str]:
            results = [
                result
                for recogniser in recognisers
                for result in recogniser.analyze(text, recogniser.supported_entities, None) or ()
            ]
            return [result.entity_type for result in results if result.score >= MIN_SCORE]

        return find

    @cached_property
    def _secrets(self) -> Callable[[str], list[str]]:
        from detect_secrets.core.scan import scan_line
        from detect_secrets.settings import transient_settings

        # Without its two measures of entropy, which take words and numbers of a chat for secrets, and its addresses,
        # which are found above.
        names = [
            "ArtifactoryDetector", "AWSKeyDetector", "AzureStorageKeyDetector", "BasicAuthDetector", "CloudantDetector",
            "DiscordBotTokenDetector", "GitHubTokenDetector", "GitLabTokenDetector", "IbmCloudIamDetector",
            "IbmCosHmacDetector", "JwtTokenDetector", "KeywordDetector", "MailchimpDetector", "NpmDetector",
            "OpenAIDetector", "PrivateKeyDetector", "PypiTokenDetector", "SendGridDetector", "SlackDetector",
            "SoftlayerDetector", "SquareOAuthDetector", "StripeDetector", "TelegramBotTokenDetector",
            "TwilioKeyDetector",
        ]  # fmt: skip
        settings = {"plugins_used": [{"name": name} for name in names]}

        def find(text: str) -> list[str]:
            with transient_settings(settings):
                return [secret.type for line in text.splitlines() for secret in scan_line(line)]

        return find
