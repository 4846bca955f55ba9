"""What a run is held to: the rules of the contract, and a fuzz check for each of its operations."""

from video_calls_spec import RULES, Rule

from video_calls_contract.schema import operations

__all__ = ["AREAS", "NOTED", "catalogue", "selected"]

AREAS: dict[str, str] = {}
"""The first parts of the slugs, in the order of the catalogue, with the document's heading of the first rule.

`--section` takes one.
"""
for _rule in RULES.values():
    AREAS.setdefault(_rule.id.partition(".")[0], _rule.section.partition(" (")[0])
AREAS["fuzz"] = "Schemas (Schemathesis)"


NOTED: frozenset[str] = frozenset(
    {
        "auth.active-user",
        "auth.challenge",
        "create.aware-time",
        "create.participants-only",
        "errors.allow-header",
        "errors.body-everywhere",
        "errors.media-type",
        "join.token-timestamp",
        "list.newest-first",
        "list.page-out-of-range",
        "model.integer-ids",
        "model.utc",
    }
)
"""Recommendations about what the document leaves open: a backend that does otherwise gets a note."""


def fuzz_rule(name: str, operation: str, summary: str) -> Rule:
    """The rule that a fuzz check reports under."""
    statement = f"openapi.yaml: {operation}" if operation != "*" else "openapi.yaml: links"
    return Rule(f"fuzz.{name}", "must", AREAS["fuzz"], statement, operation, 200, None, summary)


def catalogue() -> dict[str, Rule]:
    """Every rule by its slug, in the document's order."""
    fuzz = [
        fuzz_rule(
            operation, operation, "Generated requests, valid and not, are answered as the contract says."
        )
        for operation in operations()
    ]
    fuzz.append(fuzz_rule("links", "*", "Chains of generated requests along the links are, too."))
    return {rule.id: rule for rule in (*RULES.values(), *fuzz)}


def selected(rules: tuple[str, ...], sections: tuple[str, ...], *, fuzz: bool) -> dict[str, Rule]:
    """Those rules that are named, or lie in a section that is; all where nothing is named.

    A section is the first part of a slug, or else (a part of) a heading of the document.

    Raises:
        ValueError: a name is of no rule or section.
    """
    everything = {slug: rule for slug, rule in catalogue().items() if fuzz or not slug.startswith("fuzz.")}
    if not rules and not sections:
        return everything
    found: dict[str, Rule] = {}
    for slug in rules:
        if slug not in everything:
            raise ValueError(f"{slug} is no rule; `video-calls-contract rules` lists them")
        found[slug] = everything[slug]
    for section in sections:
        inside = {slug: rule for slug, rule in everything.items() if _is_in(rule, section)}
        if not inside:
            raise ValueError(
                f"{section} is no section; take one of {', '.join(AREAS)}, or a heading of the document"
            )
        found |= inside
    return {slug: rule for slug, rule in everything.items() if slug in found}


def _is_in(rule: Rule, section: str) -> bool:
    name = section.lower()
    return rule.id.startswith(f"{name}.") if name in AREAS else name in rule.section.lower()
