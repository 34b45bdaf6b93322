"""How a service tests its guarded views: ``sample_django/manage.py test sample_django``."""

from __future__ import annotations

from http import HTTPStatus

from django.test import TestCase

from tokenguard.testing import as_client

USERS = "/api/v1/users"


class UsersTests(TestCase):
    def test_who_may_read_reads_and_does_not_change(self) -> None:
        reader = as_client(scopes="okta.users.read")
        users = reader.get(USERS).json()
        self.assertEqual(len(users), 200)
        self.assertEqual(reader.delete(f"{USERS}/{users[0]['id']}").status_code, HTTPStatus.FORBIDDEN)

    def test_who_may_manage_changes(self) -> None:
        manager = as_client(scopes="okta.users.manage", client="acme-sync")
        with self.assertLogs("sample_django.views.users") as logged:
            done = manager.post(f"{USERS}/ada.abbott@example.com/lifecycle/deactivate")
        self.assertEqual(done.status_code, HTTPStatus.OK)
        self.assertIn("acme-sync deactivated user", logged.output[0])

    def test_nobody_else_is_let_in(self) -> None:
        self.assertEqual(self.client.get(USERS).status_code, HTTPStatus.UNAUTHORIZED)
        self.assertEqual(as_client(scopes="okta.groups.read").get(USERS).status_code, HTTPStatus.FORBIDDEN)
