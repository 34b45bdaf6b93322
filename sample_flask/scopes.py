"""What tokens of the directory may be given: the catalogue of its scopes, as tokenguard takes it."""

SCOPES = {
    "okta.users.read": "Read users",
    "okta.users.manage": {"description": "Create, change and delete users", "implies": ["okta.users.read"]},
    "okta.groups.read": "Read groups",
    "okta.apiTokens.read": "List the client's own API tokens",
    "okta.apiTokens.manage": {
        "description": "Issue, change, rotate and revoke the client's own API tokens",
        "implies": ["okta.apiTokens.read"],
    },
    "okta.apiTokens.all": "The same with the API tokens of every client",
}
#: As Okta has it: a token that nobody has used for 30 days ends.
IDLE_TIMEOUT = "30d"
