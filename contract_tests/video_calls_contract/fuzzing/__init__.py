"""Requests that Schemathesis generates from `openapi.yaml`, sent and judged as every other of a run.

Schemathesis says what to send: its coverage cases (each boundary and wrong type of each parameter and field),
random data that keeps the schema and data that breaks it, and chains along the links. It is sent through
`Person`, so that it is recorded, watched and tidied up. What would miss is aimed: ids that a call or a person
may have become those of this module's own calls and of the run's people, and times become free slots. So
requests get as far as the rules, and no call is touched that somebody else made, other tests included.

The names of the checks are Schemathesis's; what they hold is what the document promises, and no more:

* `not_a_server_error`: as there, and an answer must come.
* `status_code_conformance`: replaced. Success has its one documented status, and so has a refusal where the
  request keeps the schema. Of ids and queries that frameworks refuse in their own ways, any 4xx will do.
* `response_schema_conformance`, `content_type_conformance`: of success, the schema as `schema` relaxes it; of
  a refusal by an operation, that it is a JSON object with an `error` text.
* `negative_data_rejection`: replaced. It blames where no usual leniency explains that a request was accepted:
  a field is missing or null, a list or an object stands for a scalar, a text without a digit for an id, an id
  that nobody has, what is no date in any reading, a body that is no object. Such a body is refused with 400
  (or with 403, which may come first; a stranger also with 404). Coerced texts, booleans and fractions,
  lenient spellings of times, unix times, more fields and parameters are accepted as a backend likes.
* `positive_data_acceptance`: replaced, for a 400 of a rule is no fault. It holds what is certain: the list,
  and end, cancel and a repeated join in the state that the call is known to be in.
* `use_after_free`, `ensure_resource_availability`: replaced, for calls are not deleted. A call that has ended
  or was cancelled is not joined, ended or cancelled; and one that was made is there for its participants.
* `ignored_auth`: some requests go without a token; they must not succeed.
* `answer_to_request` is an addition: the call of the answer is the one that was asked for.

Left out: `missing_required_header` (there is none), `response_headers_conformance` (no header is promised),
`unsupported_method` and media types (rules of their own), generated header names and values (backends ignore
them), but for `Idempotency-Key`. Control characters are sent in a long run only.
"""

from video_calls_contract.fuzzing.flaws import body_flaws
from video_calls_contract.fuzzing.fuzzer import Fuzzer
from video_calls_contract.fuzzing.generation import fuzz_links, fuzz_operation
from video_calls_contract.fuzzing.judgement import judge
from video_calls_contract.fuzzing.knowledge import Knowledge, Request

__all__ = ["Fuzzer", "Knowledge", "Request", "body_flaws", "fuzz_links", "fuzz_operation", "judge"]
