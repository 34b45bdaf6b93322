"""Code of users that only has to pass a strict type checker: ``make lint`` looks at it, and nothing runs it."""
