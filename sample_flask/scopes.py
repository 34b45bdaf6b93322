"""What tokens of the directory may be given: the catalogue of its scopes, as tokenguard takes it."""

SCOPES = {
    "okta.users.read": "Read users",
    "okta.users.manage": {"description": "Create, change and delete users", "implies": ["okta.users.read"]},
    "okta.groups.read": "Read groups",
}
#: As Okta has it: a token that nobody has used for 30 days ends.
IDLE_TIMEOUT = "30d"
