"""The tests, and what they run: nothing is set up until a test, or a service, asks for it."""
