"""Paths at which every method is answered by the view itself."""

from __future__ import annotations

from typing import Any

from flask import Blueprint
from flask.blueprints import BlueprintSetupState


def add_for_all_methods(blueprint: Blueprint, rule: str, endpoint: str, view: Any) -> None:
    """Have the view answer all methods that no rule before this one has.

    Of those that are not routed Flask says in a form of its own that they are not allowed, and that all others are.
    """
    blueprint.add_url_rule(rule, endpoint, view, provide_automatic_options=False)

    @blueprint.record
    def widen(state: BlueprintSetupState) -> None:
        name = f"{state.name_prefix}.{state.name}.{endpoint}".lstrip(".")
        for each in state.app.url_map.iter_rules(name):
            each.methods = None  # which stands for all of them in Werkzeug, and cannot be said to Flask
