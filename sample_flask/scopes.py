"""The catalogue of the directory's scopes, in the form that tokenguard takes."""

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
#: As at Okta, a token that nobody has used for 30 days ends.
IDLE_TIMEOUT = "30d"
