"""Paths at which every method is answered by the view itself."""

from __future__ import annotations

from typing import Any

from flask import Blueprint
from flask.blueprints import BlueprintSetupState


def add_for_all_methods(blueprint: Blueprint, rule: str, endpoint: str, view: Any) -> None:
    """Make the view answer all methods that no earlier rule has.

    Flask refuses methods that are not routed in a form of its own, which lists all others as allowed.
    """
    blueprint.add_url_rule(rule, endpoint, view, provide_automatic_options=False)

    @blueprint.record
    def widen(state: BlueprintSetupState) -> None:
        name = f"{state.name_prefix}.{state.name}.{endpoint}".lstrip(".")
        for each in state.app.url_map.iter_rules(name):
            each.methods = None  # means all methods in Werkzeug; Flask has no argument for that
