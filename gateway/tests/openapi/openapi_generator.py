"""A client that openapi-generator made: charges, replays, reads history."""
import datetime, random, sys, uuid
sys.path.insert(0, sys.argv[3])
import openapi_client as api
from openapi_client import models as m
configuration = api.Configuration(host=sys.argv[1], api_key={"api_key": sys.argv[2]})
# Its own default writes offsets as +0000, which is not RFC 3339.
configuration.datetime_format = "%Y-%m-%dT%H:%M:%S.%fZ"
client = api.ApiClient(configuration)
users, money, history = api.UsersApi(client), api.MoneyApi(client), api.TransactionsApi(client)
holds, transfers = api.HoldsApi(client), api.TransfersApi(client)
user = random.randrange(1, 2**63 - 1)
assert users.post_users(m.User(user_id=user)).user_id == user
money.post_topup(m.TopUp(user_id=user, amount=m.Amount("100.50"), currency=m.ActiveCurrency.USD))
key = str(uuid.uuid4())
charge = m.Charge(user_id=user, amount=m.Amount("40.25"), currency=m.Currency.USD, reference="order", metadata={"a": [1, None]})
first = money.post_charge_with_http_info(charge, idempotency_key=key)
again = money.post_charge_with_http_info(charge, idempotency_key='"' + key.upper() + '"')
assert first.raw_data == again.raw_data, (first, again)
assert {k.lower(): v for k, v in again.headers.items()}["idempotent-replayed"] == "true"
assert first.data.new_balance == "60.25"
try:
    money.post_charge(m.Charge(user_id=user, amount=m.Amount(1000), currency=m.Currency.USD))
    raise SystemExit("not refused")
except api.ApiException as refused:
    assert refused.status == 402, refused
session = {k.lower(): v for k, v in first.headers.items()}["picopay-session"]
refund = money.post_refund(m.Refund(transaction_id=first.data.transaction.id, amount=m.Amount("0.25")))
assert refund.new_balance == "60.50"
assert users.get_balance(user).actual_instance.balances[0].balance == "60.50"
assert users.get_balance(user, currency=m.Currency.USD, consistency=m.Consistency.STRONG).actual_instance.balance == "60.50"
now, hour = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(hours=1)
page = history.get_transactions(user, limit=1, var_from=now - hour, to=now + hour, pico_pay_session=session)
assert len(page.data) == 1 and page.next_cursor
page = history.get_transactions(user, limit=50, kind=m.Kind.CHARGE, pico_pay_session=session)
assert [t.amount for t in page.data] == ["40.25"] and page.next_cursor is None
assert history.get_transaction(first.data.transaction.id, pico_pay_session=session).transaction.amount == "40.25"
held = holds.post_hold(m.NewHold(user_id=user, amount=m.Amount("10"), currency=m.Currency.USD, expires_in=60))
assert held.hold.status == m.HoldStatus.OPEN and held.available == "50.50", held
captured = holds.post_capture(held.hold.id, capture=m.Capture(amount=m.Amount("4.25")))
assert captured.transaction.hold_id == held.hold.id and captured.new_balance == "56.25", captured
other = holds.post_hold(m.NewHold(user_id=user, amount=m.Amount("1"), currency=m.Currency.USD))
assert holds.post_void(other.hold.id).hold.status == m.HoldStatus.VOIDED
assert holds.get_hold(held.hold.id).hold.captured == "4.25"
assert [h.id for h in holds.get_holds(user, status=m.HoldStatus.VOIDED).data] == [other.hold.id]

friend = random.randrange(1, 2**63 - 1)
users.post_users(m.User(user_id=friend))
wish = m.NewTransfer(from_user_id=user, to_user_id=friend, amount=m.Amount("6.25"), currency=m.ActiveCurrency.USD)
sent = transfers.post_transfer(wish, idempotency_key=str(uuid.uuid4()))
assert sent.transfer.status == m.TransferStatus.COMPLETED and sent.new_balance == "50.00", sent
assert transfers.get_transfer(sent.transfer.id).transfer.to_user_id == friend
assert users.get_balance(friend).actual_instance.balances[0].balance == "6.25"

operations = [
    {"operation": "charge", "idempotency_key": str(uuid.uuid4()), "body": {"user_id": user, "amount": "1", "currency": "USD"}},
    {"operation": "hold", "body": {"user_id": friend, "amount": "1", "currency": "USD"}},
    {"operation": "void", "body": {"hold_id": str(other.hold.id)}},
]
results = money.post_batch(m.Batch.from_dict({"operations": operations})).results
assert [result.status for result in results] == [200, 200, 422], results
print("openapi-generator: ok")
