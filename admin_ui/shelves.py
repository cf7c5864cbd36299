"""What one manifest may hold: the kinds of one service, with a skeleton of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from admin_ui.catalogue import BY_KIND, CatalogueKind
from admin_ui.clients import JUMPSTARTER, META
from admin_ui.lab_kinds import WRITTEN

SKELETONS: Final = {
    "region": """regions:
- name: regions/
  title:
  location: {continent: , country: , city: , cloud: }
  connectivity_scores:
  - {dest: regions/, score: 10}
""",
    "service": """services:
- name: services/
  display_name:
  current_version: v1
  all_versions: [v1]
""",
    "resource": """resources:
- name: services/SERVICE/resources/
  plural_name:
  is_regional: false
""",
    "deployment": """deployments:
- name: regions/REGION/deployments/
  service: services/
""",
    "exporter": """exporters:
- name: namespaces/default/exporters/
  labels: {board: , site: }
""",
    "client": """clients:
- name: namespaces/default/clients/
  labels: {team: }
""",
    "access_policy": """access_policies:
- name: namespaces/default/accessPolicies/
  # Which exporters; nothing is all of them.
  exporter_selector: {match_labels: {board: }}
  policies:
  - description: who this is for
    priority: 0
    from:
    - client_selector: {match_labels: {team: }}
    maximum_duration: 7200s
""",
}


@dataclass(frozen=True, slots=True)
class Shelf:
    """`route`: of its page; `noun`: what people call all of it."""

    route: str
    floor: str
    kinds: Mapping[str, CatalogueKind]
    noun: str


CATALOGUE: Final = Shelf("manifest", META, BY_KIND, "catalogue")
LAB: Final = Shelf("lab.manifest", JUMPSTARTER, WRITTEN, "lab")
