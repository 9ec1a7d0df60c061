"""What a schema cannot say, for schemathesis.

A cursor is made by the gateway, for one query: no generator can make one up, and it has tests of its own.
For a header whose pattern is that of a UUID, schemathesis 4.32 sends "0" among what it takes for valid; that is left out.
A schema knows neither the currency of a charge or a hold that a body names, nor that two users must differ, nor that one
parameter excludes another.
JSON Schema calls 1.0 an integer, and the contract does not: a number is read from its literal text.
"""
import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.query:
        case.query.pop("cursor", None)
    is_meant_as_valid = case.meta is not None and case.meta.generation.mode.is_positive
    if case.query and is_meant_as_valid and "at" in case.query:
        case.query.pop("consistency", None)
    if case.headers and is_meant_as_valid and len(case.headers.get("Idempotency-Key") or "") < 36:
        case.headers.pop("Idempotency-Key", None)
    # `map_body` is not asked about the cases of the coverage phase.
    if is_meant_as_valid:
        map_body(context, case.body)
    if is_meant_as_valid and isinstance(case.body, dict) and case.path in ("/refund", "/holds/{id}/capture"):
        case.body.pop("amount", None)


def whole(value):
    return int(value) if isinstance(value, float) and value.is_integer() else value


def mended(operation):
    for name in ("user_id", "from_user_id", "to_user_id", "amount", "expires_in"):
        if name in operation:
            operation[name] = whole(operation[name])
    users = operation.get("user_ids")
    if isinstance(users, list):
        operation["user_ids"] = [whole(user) for user in users]
    sender = operation.get("from_user_id")
    if isinstance(sender, int) and operation.get("to_user_id") == sender:
        operation["to_user_id"] = sender - 1 if sender > 1 else sender + 1


@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict):
        operations = body.get("operations")
        for operation in [body, *(operations if isinstance(operations, list) else [])]:
            if isinstance(operation, dict):
                mended(operation)
    return body
