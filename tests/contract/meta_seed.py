"""A small catalogue with every field in use, for tests that only read."""

from __future__ import annotations

from typing import Any

SEED: dict[str, list[dict[str, Any]]] = {
    "regions": [
        {
            "name": "regions/eu-west",
            "title": "Europe West",
            "domain": "eu.example.com",
            "location": {"continent": "Europe", "country": "IE", "city": "Dublin", "cloud": "own"},
            "is_default": True,
            "connectivity_scores": [
                {"dest": "regions/us-east", "score": 7},
                {"dest": "regions/ap-south", "score": -3},
            ],
            "metadata": {
                "tags": ["old", "big"],
                "labels": {"env": "prod", "a.b/c": "dotted", "team": "x"},
                "annotations": {"note": "hello"},
                "shards": {"s0": 4},
                "owner_references": [{"kind": "Service", "name": "services/jobs.example.com"}],
                "syncing": {"owning_region": "regions/eu-west", "regions": ["*"]},
                "services": {"owning_service": "services/jobs.example.com"},
            },
        },
        {"name": "regions/us-east", "title": "US East", "domain": "us.example.com", "location": {}},
        {
            "name": "regions/ap-south",
            "title": "Asia South",
            "connectivity_scores": [{"dest": "regions/eu-west", "score": 1}],
            "metadata": {"labels": {"env": "dev"}},
        },
        {"name": "regions/sa-east", "metadata": {"labels": {"env": "prod"}}},
    ],
    "services": [
        {
            "name": "services/jobs.example.com",
            "display_name": "Jobs",
            "current_version": "v2",
            "all_versions": ["v2", "v1"],
        },
        {
            "name": "services/pods.example.com",
            "display_name": "Pods",
            "current_version": "v1",
            "all_versions": ["v1"],
        },
    ],
    "resources": [
        {"name": "services/jobs.example.com/resources/Job", "plural_name": "jobs", "is_regional": True},
        {"name": "services/jobs.example.com/resources/Pool", "plural_name": "pools"},
        {"name": "services/pods.example.com/resources/Pod", "plural_name": "pods"},
    ],
    "deployments": [
        {"name": "regions/eu-west/deployments/jobs", "service": "services/jobs.example.com"},
        {"name": "regions/eu-west/deployments/pods", "service": "services/pods.example.com"},
        {"name": "regions/us-east/deployments/jobs", "service": "services/jobs.example.com"},
        {"name": "regions/us-east/deployments/_.odd-1", "service": "services/pods.example.com"},
    ],
}
REGION_NAMES = ["regions/ap-south", "regions/eu-west", "regions/sa-east", "regions/us-east"]
