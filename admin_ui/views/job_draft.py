"""What the editor of jobs holds between two requests, and what a page says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import grpc
from multidict import MultiDictProxy

from admin_ui.presenters import failures, job_forms, job_pools, job_specs
from admin_ui.presenters import job_workflows as workflows
from shared.errors import InvalidArgument, Violation
from shared.pb.peloton.api.v1alpha.job.stateless.stateless_pb2 import JobSpec
from shared.rpc.client import CallFailed, Failure

FORM: Final = "form"
YAML: Final = "yaml"


@dataclass(frozen=True, slots=True)
class Draft:
    """What a page's form says. `form`: FORM or YAML. `base`: the spec as YAML that the form's fields
    are put into. `agreed`: the digest of the preview that it shows. Of a replacement, `version` is the
    job's that it will name, and `since` an older one which the text began from, until both were put
    together."""

    form: str
    typed: Mapping[str, str]
    text: str = ""
    base: str = ""
    action: str = ""
    agreed: str = ""
    version: str = ""
    since: str = ""

    @classmethod
    def of(cls, data: MultiDictProxy[Any]) -> Draft:
        names = (*job_forms.FIELDS, *job_forms.HOW)
        return cls(
            form=YAML if data.get("form") == YAML else FORM,
            typed={name: _text(data, name).strip() for name in names},
            text=_text(data, "text"),
            base=_text(data, "base"),
            action=_text(data, "action"),
            agreed=_text(data, "agreed"),
            version=_text(data, "version"),
            since=_text(data, "since"),
        )

    @classmethod
    def from_spec(cls, spec: JobSpec, form: str, **given: Any) -> Draft:
        text = job_specs.text(spec)
        typed = {**dict.fromkeys(job_forms.HOW, ""), **job_forms.typed_of(spec)}
        return cls(form=form, typed=typed, text=text, base=text, **given)

    def with_spec(self, spec: JobSpec, form: str) -> Draft:
        """The same about another spec: how it is rolled out stays."""
        text = job_specs.text(spec)
        typed = {**self.typed, **job_forms.typed_of(spec)}
        return replace(self, form=form, typed=typed, text=text, base=text)


def _text(data: MultiDictProxy[Any], name: str) -> str:
    """Browsers send line ends as CRLF."""
    found = data.get(name, "")
    return found.replace("\r\n", "\n") if isinstance(found, str) else ""


@dataclass(slots=True)
class Findings:
    """What a page says of its draft: `errors` by field of the form, `wrong` by path of the spec."""

    errors: dict[str, str] = field(default_factory=dict)
    wrong: Sequence[Violation] = ()
    problem: Failure | None = None
    note: str = ""
    status: int = 200
    preview: Preview | None = None
    stale: Stale | None = None

    @property
    def good(self) -> bool:
        return not self.errors and not self.wrong


@dataclass(frozen=True, slots=True)
class Preview:
    """`touched`: instances, of a replacement; `lines`: how the spec's text differs from the present.
    `other`: it is not what was agreed to."""

    text: str
    digest: str
    room: job_pools.Room | None
    lines: Sequence[Any] = ()
    touched: Sequence[workflows.Touched] = ()
    other: bool = False


@dataclass(frozen=True, slots=True)
class Stale:
    """What others did to the job since the text began: their writes, how the spec's text changed, and
    what both changed."""

    since: str
    now: str
    entries: Sequence[Any]
    lines: Sequence[Any]
    overlaps: Sequence[Any]


def read(draft: Draft, found: Findings) -> JobSpec | None:
    """The spec that the draft says, as far as it says one."""
    if draft.form == YAML:
        try:
            return job_specs.parse(draft.text)
        except InvalidArgument as error:
            found.wrong = error.violations or (Violation("", error.message),)
            return None
    try:
        base = job_specs.parse(draft.base) if draft.base.strip() else JobSpec()
    except InvalidArgument as error:
        found.wrong = error.violations
        return None
    spec, found.errors = job_forms.spec_of(draft.typed, base)
    return spec


def turned(draft: Draft, found: Findings) -> Draft:
    """The draft in the other form; as it is while something in it is wrong."""
    spec = read(draft, found)
    if spec is None or found.errors:
        found.note = "Correct this first; then it can be shown the other way."
        found.status = 400
        return draft
    return draft.with_spec(spec, draft.action)


def blame(found: Findings, wrong: Sequence[Violation], form: str) -> None:
    """Each mistake beside its field where the form has one."""
    if form == FORM:
        found.errors, rest = job_specs.of_field(wrong, job_forms.PATHS)
        found.wrong = rest
    else:
        found.wrong = wrong


def refused(found: Findings, failure: Failure, form: str) -> None:
    """What a service said of the draft. Raises CallFailed for someone who is no longer signed in."""
    if failure.code is grpc.StatusCode.UNAUTHENTICATED:
        raise CallFailed(failure)
    found.status = failures.explain(failure).status
    wrong = job_specs.violations(failure)
    if wrong:
        found.status = 400
        blame(found, wrong, form)
    else:
        found.problem = failure


def pool_faults(spec: JobSpec, known: Sequence[job_pools.Pool]) -> list[Violation]:
    """What CreateJob alone would say: validation knows nothing of pools."""
    id = spec.respool_id.value
    if not known:
        return []
    if not id:
        leaves = ", ".join(f"{pool.id} ({pool.path})" for pool in known if pool.leaf)
        return [Violation("respool_id", f"must name a resource pool: {leaves}")]
    own = next((pool for pool in known if pool.id == id), None)
    if own is None:
        return [Violation("respool_id", f"{id} is no resource pool")]
    return [] if own.leaf else [Violation("respool_id", f"{own.path} has pools below it: name one of those")]
