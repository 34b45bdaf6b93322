"""What the services of the framework contract have in common."""

CATALOG: dict[str, object] = {
    "users:read": "Read users",
    "users:manage": {"description": "Change users", "implies": ["users:read"]},
    "groups:read": "Read groups",
}
HEADERS = ["X-API-Key"]
#: Where a sample is mounted besides.
MOUNT = "/mounted"
