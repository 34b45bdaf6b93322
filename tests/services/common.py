"""What the services of the framework contract have in common."""

CATALOG: dict[str, object] = {
    "users:read": "Read users",
    "users:manage": {"description": "Change users", "implies": ["users:read"]},
    "groups:read": "Read groups",
}
HEADERS = ["X-API-Key"]

#: Where the service says what it is, if its environment names it so.
RESOURCE = "https://api.example.com/directory"
METADATA_PATH = "/.well-known/oauth-protected-resource/directory"
