# ruff: noqa: E501 - a table, one filter a line
"""What filters select from a small catalogue, a table a rule of section 8 of the meta contract.

Data only; test_meta_filters.py asks for it over real sockets, on every backend.
"""

from __future__ import annotations

from typing import Any

# Applied one after the other, ten seconds apart; `{eu}`, `{us}` and `{jp}` in a filter are the times.
APPLIED: dict[str, dict[str, list[dict[str, Any]]]] = {
    "jp": {"regions": [{"name": "regions/jp"}]},
    "us": {
        "regions": [
            {
                "name": "regions/us",
                "title": "Éire%_",
                "location": {},
                "connectivity_scores": [{"dest": "regions/jp", "score": 5}],
                "metadata": {"lifecycle": None, "syncing": {}},
            }
        ]
    },
    "eu": {
        "regions": [
            {
                "name": "regions/eu",
                "title": "Europe",
                "domain": "eu.example.com",
                "is_default": True,
                "location": {"city": "Rome"},
                "connectivity_scores": [
                    {"dest": "regions/us", "score": -3},
                    {"dest": "regions/jp", "score": 5},
                ],
                "metadata": {
                    "tags": ["gold", "eu"],
                    "labels": {"env": "prod", "tier": "", "example.com/zone": "a", "1st": "x:y", "someKey": "k"},
                    "shards": {"byName": 4},
                    "owner_references": [{"kind": "Fleet", "name": "f", "controller": True}],
                    "syncing": {"owning_region": "regions/eu", "regions": ["*"]},
                },
            }
        ],
        "services": [
            {"name": "services/a", "display_name": "A", "current_version": "v2", "all_versions": ["v2", "v1"]},
            {"name": "services/b.x", "current_version": "v3", "all_versions": ["v3"]},
        ],
        "resources": [
            {"name": "services/a/resources/Job", "plural_name": "jobs", "is_regional": True},
            {"name": "services/a/resources/Pod"},
            {"name": "services/b.x/resources/Job"},
        ],
        "deployments": [
            {"name": "regions/eu/deployments/a", "service": "services/a"},
            {"name": "regions/eu/deployments/b", "service": "services/b.x"},
            {"name": "regions/us/deployments/a", "service": "services/a"},
        ],
    },
}  # fmt: skip
SHORT = {
    "region": {"eu": "regions/eu", "jp": "regions/jp", "us": "regions/us"},
    "service": {"a": "services/a", "b": "services/b.x"},
    "deployment": {
        "ea": "regions/eu/deployments/a",
        "eb": "regions/eu/deployments/b",
        "ua": "regions/us/deployments/a",
    },
    "resource": {
        "aj": "services/a/resources/Job",
        "ap": "services/a/resources/Pod",
        "bj": "services/b.x/resources/Job",
    },
}
NOTHING = "nothing is everything"
# rule -> kind -> (filter, what it selects)
RULES: dict[str, dict[str, list[tuple[str, str]]]] = {
    NOTHING: {"region": [("", "eu jp us"), (" \t\r\n", "eu jp us"), ("()", "eu jp us"), ("-- only a comment", "eu jp us")]},
    "words": {
        "region": [
            ('title="Europe"', "eu"),
            ('title -- which?\n = "Europe" -- that', "eu"),
            ('title == "Europe"', "eu"),
            (r'title = "\u00c9ire%_"', "us"),
            (r'title = "\xc3\x89ire\x25_"', "us"),
            ('isDefault = true', "eu"),
            ('is-default = True', "eu"),
            ('connectivityScores.dest = "regions/us"', "eu"),
            ('connectivity-scores.score iS nOt NuLl and Not title In ["x"]', "eu us"),
            (r'metadata.labels.example\.com/zone = "a"', "eu"),
            ('metadata.labels.someKey = "k"', "eu"),
            ('metadata.labels.some_key = "k"', ""),
        ]
    },
    "NOT before AND before OR, and AND may be left out": {
        "region": [
            ('title = "Europe" OR name = "regions/jp" AND is_default = TRUE', "eu"),
            ('title = "Europe" | name = "regions/jp" + is_default = TRUE', "eu"),
            ('is_default = TRUE AND name = "regions/jp" OR title = "Europe"', "eu"),
            ('(title = "Europe" OR name = "regions/jp") AND is_default = FALSE', "jp"),
            ('NOT title = "Europe" AND name = "regions/jp"', "jp"),
            ('NOT title = "Europe" OR is_default = TRUE', "eu jp us"),
            ('NOT (title = "Europe" OR name = "regions/jp")', "us"),
            ('title = "" is_default = FALSE', "jp"),
            ("NOT NOT is_default = TRUE", "eu"),
        ]
    },
    "null": {
        "region": [
            ("location IS NULL", "jp"),
            ("location IS NOT NULL", "eu us"),
            ("location = NULL", "jp"),
            ("location != NULL", "eu us"),
            ("metadata IS NULL", ""),
            ("metadata.create_time IS NULL", ""),
            ("metadata.delete_time IS NULL", "eu jp us"),
            ("metadata.tags IS NULL", "jp us"),
            ("metadata.labels IS NULL", "jp us"),
            ("metadata.labels.env IS NULL", "jp us"),
            ("metadata.labels.tier IS NULL", "jp us"),
            ("metadata.syncing IS NULL", "jp"),
            ("metadata.syncing.owning_region IS NULL", "jp"),
            ("connectivity_scores IS NULL", "jp"),
            ("connectivity_scores.dest IS NULL", "jp"),
            ("connectivity_scores.score IS NULL", "jp"),
            ("name IS NULL", ""),
            ("title IS NULL", ""),
            ("is_default IS NULL", ""),
            ("location.city IS NULL", "jp"),
            ("location.city IS NOT NULL", "eu us"),
        ],
        "deployment": [("service IS NULL", ""), ("service IS NOT NULL", "ea eb ua")],
        "resource": [("plural_name IS NULL", ""), ("metadata.lifecycle.state IS NULL", "")],
    },
    "what is missing compares as its default": {
        "region": [
            ('location.city = ""', "jp us"),
            ('location.city != "Rome"', "jp us"),
            ('location.city < "A"', "jp us"),
            ('metadata.labels.env = ""', "jp us"),
            ('metadata.labels.env != "prod"', "jp us"),
            ('metadata.labels.tier = ""', "eu jp us"),
            ("metadata.shards.byName < 4", "jp us"),
            ("metadata.shards.byName >= 0", "eu jp us"),
            ("metadata.lifecycle.block_deletion = FALSE", "eu jp us"),
            ('metadata.delete_time < "0001-01-01T00:00:00Z"', "eu jp us"),
            ('metadata.delete_time > "0001-01-01T00:00:00Z"', ""),
            ('metadata.delete_time != "2030-01-01T00:00:00Z"', "eu jp us"),
        ]
    },
    "comparisons": {
        "region": [
            ('title > "Z"', "us"),
            ('title >= "Europe"', "eu us"),
            ('title < "Europe"', "jp"),
            ('title <= "Europe"', "eu jp"),
            ('title = "europe"', ""),
            ('title != "Europe"', "jp us"),
            ('domain = "eu.example.com"', "eu"),
            ('domain != "eu.example.com"', "jp us"),
            ("is_default > FALSE", "eu"),
            ("is_default < TRUE", "jp us"),
            ("is_default != TRUE", "jp us"),
            ("metadata.generation = 1", "eu jp us"),
            ("metadata.generation > 1", ""),
            ('metadata.lifecycle.state = "ACTIVE"', "eu jp us"),
            ("metadata.lifecycle.state = 1", "eu jp us"),
            ('metadata.lifecycle.state < "DELETING"', "eu jp us"),
            ('metadata.lifecycle.state > "ACTIVE"', ""),
            ('metadata.create_time = "{us}"', "us"),
            ('metadata.create_time < "{us}"', "jp"),
            ('metadata.create_time <= "{us}"', "jp us"),
            ('metadata.create_time > "{us}"', "eu"),
            ('metadata.create_time >= "{us+2}"', "eu us"),
            ('metadata.update_time != "{us+2}"', "eu jp"),
            ('metadata.create_time IN ("{eu}", "{jp+2}")', "eu jp"),
        ]
    },
    "names and references": {
        "region": [
            ('name = "regions/us"', "us"),
            ('name != "regions/us"', "eu jp"),
            ('name = "regions/-"', "eu jp us"),
            ('name != "regions/-"', ""),
            ('name > "regions/eu"', "jp us"),
            ('name >= "regions/-"', "eu jp us"),
            ('name IN ("regions/us", "regions/-")', "us"),
            ('name NOT IN ("regions/-")', "eu jp us"),
            ('connectivity_scores.dest = "regions/us"', "eu"),
            ('connectivity_scores.dest = "regions/-"', "eu us"),
            ('connectivity_scores.dest != "regions/-"', "jp"),
        ],
        "deployment": [
            ('name = "regions/eu/deployments/-"', "ea eb"),
            ('name = "regions/-/deployments/a"', "ea ua"),
            ('name = "regions/-/deployments/-"', "ea eb ua"),
            ('name != "regions/eu/deployments/-"', "ua"),
            ('service = "services/a"', "ea ua"),
            ('service = "services/-"', "ea eb ua"),
            ('service > "services/a"', "eb"),
        ],
        "resource": [
            ('name = "services/-/resources/Job"', "aj bj"),
            ('name = "services/a/resources/-"', "aj ap"),
            ('fqn = "a/Job"', "aj"),
            ("is_regional = TRUE", "aj"),
        ],
    },
    "whole messages and maps": {
        "region": [
            ('location = {"city": "Rome"}', "eu"),
            ('location != {"city": "Rome"}', "jp us"),
            ("location = {}", "us"),
            ("location != {}", "eu jp"),
            ('location = {"city": "Rome", "country": "it"}', ""),
            ('metadata.lifecycle = {"state": "ACTIVE"}', "eu jp us"),
            ('metadata.lifecycle = {"state": "ACTIVE", "blockDeletion": TRUE}', ""),
            ('metadata.shards = {"byName": 4}', "eu"),
            ("metadata.shards != {}", "eu"),
            ('metadata.labels = {"env": "prod"}', ""),
            ("metadata.labels = {}", "jp us"),
        ]
    },
    "IN": {
        "region": [
            ('title IN ("Europe", "x")', "eu"),
            ('title NOT IN ["Europe", "x"]', "jp us"),
            ("is_default IN (TRUE)", "eu"),
            ("metadata.generation IN (0, 1)", "eu jp us"),
            ('metadata.labels.env IN ("", "x")', "jp us"),
            ("connectivity_scores.score NOT IN (-3, 7)", "jp us"),
        ]
    },
    "CONTAINS": {
        "region": [
            ('metadata.tags CONTAINS "gold"', "eu"),
            ('metadata.tags CONTAIN VALUE "gold"', "eu"),
            ('metadata.tags HAVE "gold"', "eu"),
            ('metadata.tags HAS "Gold"', ""),
            ('metadata.tags HAS ANY ("x", "eu")', "eu"),
            ('metadata.tags HAS ALL ("gold", "eu")', "eu"),
            ('metadata.tags HAS ALL ("gold", "x")', ""),
            ('connectivity_scores HAS {"dest": "regions/us", "score": -3}', "eu"),
            ('connectivity_scores HAS {"dest": "regions/us"}', ""),
            ("connectivity_scores.score CONTAINS 5", "eu us"),
            ("connectivity_scores.score CONTAINS ALL (5, -3)", "eu"),
            ('metadata.labels CONTAINS "env:prod"', "eu"),
            ('metadata.labels CONTAINS "env:test"', ""),
            ('metadata.labels CONTAINS "env"', "eu"),
            ('metadata.labels CONTAINS "1st:x:y"', "eu"),
            ('metadata.labels CONTAINS "tier:"', "eu"),
            ('metadata.labels CONTAINS {"env": "prod", "tier": ""}', "eu"),
            ('metadata.labels CONTAINS {"env": "prod", "tier": "x"}', ""),
            ('metadata.labels CONTAINS ANY ("none", "env:prod")', "eu"),
            ('metadata.labels CONTAINS ALL ("none", "env:prod")', ""),
            ('metadata.syncing.regions CONTAINS "*"', "eu"),
        ],
        "service": [('all_versions CONTAINS "v1"', "a"), ('allVersions HAS ANY ("v1", "v3")', "a b")],
    },
    "through repeated messages": {
        "region": [
            ("connectivity_scores.score < 0", "eu"),
            ("connectivity_scores.score = 5", "eu us"),
            ("connectivity_scores.score != 5", "jp"),
            ("connectivity_scores.score > 5", ""),
            ("metadata.owner_references.controller = TRUE", "eu"),
            ('metadata.ownerReferences.kind LIKE "F%"', "eu"),
        ]
    },
    "LIKE": {
        "region": [
            ('title LIKE "Eur%"', "eu"),
            ('title LIKE "eur%"', ""),
            ('title LIKE "%r"', ""),
            ('title LIKE "_ire%"', "us"),
            (r'title LIKE "%\\%\\_"', "us"),
            (r'title LIKE "Europ\\_"', ""),
            ('title LIKE ""', "jp"),
            ('metadata.labels.none LIKE "%"', "eu jp us"),
            ('name LIKE "regions/_p"', "jp"),
            ('connectivity_scores.dest LIKE "%/u_"', "eu"),
        ],
        "deployment": [('service LIKE "%.x"', "eb"), ('name LIKE "%/eu/%a"', "ea")],
    },
    "NAN": {
        "region": [
            ("metadata.generation IS NAN", ""),
            ("metadata.generation IS NOT NAN", "eu jp us"),
            ("title IS NAN", ""),
            ("location IS NOT NAN", "eu jp us"),
        ]
    },
}  # fmt: skip
# In each filter, ^ stands before what the error points at.
WRONG = [
    "title = ^'Europe'",
    'title = ^"Europe',
    'title ^<> "a"',
    "metadata.generation = ^1.2.3",
    "metadata.generation = ^+5",
    'metadata.labels^.1st = "x"',
    "title = ^domain",
    "title = ^$1",
    "title = ^?",
    'title = ^lower("Europe")',
    '^lower(title) = "europe"',
    "metadata.generation = 1 + ^1",
    "metadata.generation = 1 ^- 1",
    'title ^NOT LIKE "a"',
    "title IN (^)",
    '(title = "a"^',
    '^nothing = "a"',
    'title.^x = "a"',
    'metadata.labels.a.^b = "a"',
    "title = ^5",
    'is_default = ^"true"',
    'metadata.generation = ^"5"',
    "metadata.generation = ^1.0",
    "metadata.generation = ^9223372036854775808",
    "connectivity_scores.score = ^2147483648",
    'metadata.create_time = ^"2024-01-01"',
    'metadata.lifecycle.state = ^"active"',
    "metadata.lifecycle.state = ^7",
    'name = ^"eu"',
    'connectivity_scores.dest = ^"services/a"',
    'location = ^{"town": "Rome"}',
    'metadata.tags ^= "a"',
    'location ^< {"city": "Rome"}',
    "title ^< NULL",
    'location ^IN ({"city": "Rome"})',
    'title ^CONTAINS "a"',
    'metadata.generation ^LIKE "1%"',
    'metadata.create_time ^LIKE "2%"',
    "(" * 33 + '^title = "a"' + ")" * 33,
    'title = "a" ' * 200 + '^title = "a"',
    "title IN (" + '"a",' * 100 + '^"a")',
    'title = "' + "a" * 8183 + '^"',
]
