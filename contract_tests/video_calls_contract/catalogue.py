"""The rules that a run can check: the rules of the contract, and one fuzz rule for each operation."""

from video_calls_spec import RULES, Rule

from video_calls_contract.schema import operations

AREAS: dict[str, str] = {}
"""The names for `--section`: the first parts of slugs, each with the heading of its first rule."""
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
"""Recommendations, where the document leaves the behaviour open. Not to follow one causes only a note."""


def catalogue() -> dict[str, Rule]:
    """Return every rule by its slug, in the order of the document."""
    fuzz = [
        _fuzz_rule(operation, operation, "The response to each generated request conforms to the contract.")
        for operation in operations()
    ]
    fuzz.append(
        _fuzz_rule("links", "*", "The responses to chains of generated requests conform to the contract.")
    )
    return {rule.id: rule for rule in (*RULES.values(), *fuzz)}


def _fuzz_rule(name: str, operation: str, summary: str) -> Rule:
    return Rule(f"fuzz.{name}", "must", AREAS["fuzz"], f"openapi.yaml: {name}", operation, 200, None, summary)


def select_rules(rules: tuple[str, ...], sections: tuple[str, ...], *, fuzz: bool) -> dict[str, Rule]:
    """Return the rules with these slugs or in these sections; all rules if both are empty.

    A section is the first part of a slug, or words from a heading of the document.

    Raises:
        ValueError: if a name is no rule or section.
    """
    everything = {slug: rule for slug, rule in catalogue().items() if fuzz or not slug.startswith("fuzz.")}
    if not rules and not sections:
        return everything
    for slug in rules:
        if slug not in everything:
            raise ValueError(f"unknown rule {slug}; `video-calls-contract rules` lists all rules")
    selection = set(rules)
    for section in sections:
        inside = {slug for slug, rule in everything.items() if _is_in_section(rule, section)}
        if not inside:
            raise ValueError(
                f"unknown section {section}; use one of {', '.join(AREAS)}, or a heading of the document"
            )
        selection |= inside
    return {slug: rule for slug, rule in everything.items() if slug in selection}


def _is_in_section(rule: Rule, section: str) -> bool:
    name = section.lower()
    return rule.id.startswith(f"{name}.") if name in AREAS else name in rule.section.lower()
