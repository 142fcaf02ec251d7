"""The workers that compute, and the line between them and the HTTP process: jobs out, tokens back."""
