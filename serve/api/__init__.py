"""The HTTP process: endpoints, what they share, and the forms of what goes in and out."""
