"""The fuzz rules: requests that Schemathesis generates from `openapi.yaml`, and checks of their responses.

Schemathesis generates its coverage cases (the boundaries and wrong types of each parameter and field), random
valid and invalid data, and chains of requests that follow the links of the contract. The suite replaces ids
with ids of its own calls and users, and times with free times. So the requests are valid enough to reach the
rules of the backend, and they change no other call.

The checks have Schemathesis's names, but require only what the document promises. "Replaced" means that the
suite has its own check instead of Schemathesis's:

* `not_a_server_error`: there is a response, and its status is below 500.
* `status_code_conformance`: replaced. A success, and the refusal of a valid request, have the documented
  status. Any 4xx may refuse an invalid id or query, because each framework has its own status for them.
* `response_schema_conformance`, `content_type_conformance`: a success has the schema that the module `schema`
  relaxes; a refusal by an operation has a JSON object with an `error` text.
* `negative_data_rejection`: replaced. A backend must refuse a body with 400 if even a lenient backend would
  not accept it: a missing or null field, a list or an object for a scalar, a text without a digit for an id,
  an unused id, a text that no parser reads as a date, a body that is not an object. 403 is allowed too, and
  404 for outsiders. A backend may accept texts for numbers, booleans, fractions, other times and more fields.
* `positive_data_acceptance`: replaced, because a rule may refuse valid data. The list must succeed; so must
  end, cancel and a repeated join if the call is in the right state.
* `use_after_free`, `ensure_resource_availability`: replaced, because calls are not deleted. A call that was
  ended or cancelled cannot be joined, ended or cancelled; an existing call is available to its participants.
* `ignored_auth`: a request without a token must not succeed.
* `answer_to_request`: added by the suite. The response is about the call of the request.

Left out: `missing_required_header` (there is none), `response_headers_conformance` (no header is promised),
`unsupported_method` and media types (other rules check them), and generated headers (backends ignore them)
except `Idempotency-Key`. Control characters are sent only in a long run.
"""

from video_calls_contract.fuzzing.flaws import body_flaws
from video_calls_contract.fuzzing.fuzzer import Fuzzer
from video_calls_contract.fuzzing.generation import fuzz_links, fuzz_operation, prepare
from video_calls_contract.fuzzing.judgement import judge
from video_calls_contract.fuzzing.knowledge import Knowledge, Request

__all__ = ["Fuzzer", "Knowledge", "Request", "body_flaws", "fuzz_links", "fuzz_operation", "judge", "prepare"]
