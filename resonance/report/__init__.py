"""Parts of the HTML pages that evaluation and training write: charts, curves, the policy of a page."""
