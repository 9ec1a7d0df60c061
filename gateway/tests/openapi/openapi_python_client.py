"""A client that openapi-python-client made: charges, replays, reads history."""
import datetime, random, sys, uuid
sys.path.insert(0, sys.argv[3])
from picopay_client.client import AuthenticatedClient
from picopay_client.api.users import post_users, get_balance
from picopay_client.api.money import post_topup, post_charge, post_refund, post_batch
from picopay_client.api.holds import post_hold, post_capture, post_void, get_hold, get_holds
from picopay_client.api.transfers import post_transfer, get_transfer
from picopay_client.api.transactions import get_transactions, get_transaction
from picopay_client.models import Batch, Capture, HoldStatus, NewHold, NewTransfer, TransferStatus, Void
from picopay_client.models import User, TopUp, Charge, Refund, ActiveCurrency, Currency, Kind, Consistency, Problem
client = AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2])
user = random.randrange(1, 2**63 - 1)
assert post_users.sync(client=client, body=User(user_id=user)).user_id == user
top = post_topup.sync_detailed(client=client, body=TopUp(user_id=user, amount="100.50", currency=ActiveCurrency.USD), idempotency_key=str(uuid.uuid4()))
assert top.status_code == 200, top
key = str(uuid.uuid4())
first = post_charge.sync_detailed(client=client, body=Charge(user_id=user, amount="40.25", currency=Currency.USD, reference="order"), idempotency_key=key)
again = post_charge.sync_detailed(client=client, body=Charge(user_id=user, amount="40.25", currency=Currency.USD, reference="order"), idempotency_key=key)
assert first.status_code == again.status_code == 200 and first.content == again.content, (first, again)
assert again.headers["idempotent-replayed"] == "true"
assert first.parsed.new_balance == "60.25" and first.parsed.transaction.kind == Kind.CHARGE
poor = post_charge.sync(client=client, body=Charge(user_id=user, amount=1000, currency=Currency.USD))
assert isinstance(poor, Problem) and poor.code == "insufficient-balance" and poor.balance == "60.25", poor
bad = post_charge.sync(client=client, body=Charge(user_id=user, amount="1.234", currency=Currency.USD))
assert isinstance(bad, Problem) and bad.errors, bad
refund = post_refund.sync(client=client, body=Refund(transaction_id=first.parsed.transaction.id, amount="0.25"))
assert refund.new_balance == "60.50"
session = first.headers["picopay-session"]
balance = get_balance.sync(client=client, user_id=user)
assert balance.balances[0].balance == "60.50", balance
one = get_balance.sync(client=client, user_id=user, currency=Currency.USD, consistency=Consistency.STRONG)
assert one.balance == "60.50", one
page = get_transactions.sync(client=client, user_id=user, limit=2, kind=Kind.CHARGE, pico_pay_session=session)
assert [t.amount for t in page.data] == ["40.25"] and page.next_cursor is None, page
now = datetime.datetime.now(datetime.timezone.utc)
page = get_transactions.sync(client=client, user_id=user, limit=1, from_=now - datetime.timedelta(hours=1), to=now + datetime.timedelta(hours=1), pico_pay_session=session)
assert len(page.data) == 1 and page.next_cursor, page
rest = get_transactions.sync(client=client, user_id=user, limit=50, cursor=page.next_cursor, from_=now - datetime.timedelta(hours=1), to=now + datetime.timedelta(hours=1), pico_pay_session=session)
assert len(rest.data) == 2 and rest.next_cursor is None, rest
looked = get_transaction.sync(client=client, id=first.parsed.transaction.id, pico_pay_session=session)
assert looked.transaction.amount == "40.25"
held = post_hold.sync(client=client, body=NewHold(user_id=user, amount="10", currency=Currency.USD, expires_in=60))
assert held.hold.status == HoldStatus.OPEN and held.available == "50.50", held
captured = post_capture.sync(id=held.hold.id, client=client, body=Capture(amount="4.25"))
assert captured.transaction.hold_id == held.hold.id and captured.new_balance == "56.25", captured
other = post_hold.sync(client=client, body=NewHold(user_id=user, amount=1, currency=Currency.USD))
assert post_void.sync(id=other.hold.id, client=client, body=Void()).hold.status == HoldStatus.VOIDED
late = post_void.sync(id=held.hold.id, client=client, body=Void())
assert isinstance(late, Problem) and late.hold_status == HoldStatus.CAPTURED, late
assert get_hold.sync(id=held.hold.id, client=client).hold.captured == "4.25"
page = get_holds.sync(client=client, user_id=user, status=HoldStatus.VOIDED)
assert [h.id for h in page.data] == [other.hold.id], page

friend = random.randrange(1, 2**63 - 1)
post_users.sync(client=client, body=User(user_id=friend))
wish = NewTransfer(from_user_id=user, to_user_id=friend, amount="6.25", currency=ActiveCurrency.USD)
sent = post_transfer.sync(client=client, body=wish, idempotency_key=str(uuid.uuid4()))
assert sent.transfer.status == TransferStatus.COMPLETED and sent.new_balance == "50.00", sent
assert get_transfer.sync(id=sent.transfer.id, client=client).transfer.to_user_id == friend
nobody = post_transfer.sync(client=client, body=NewTransfer(from_user_id=user, to_user_id=friend ^ 1, amount=1, currency=ActiveCurrency.USD))
assert isinstance(nobody, Problem) and nobody.code == "user-not-found" and nobody.user_id == friend ^ 1, nobody

operations = [
    {"operation": "charge", "idempotency_key": str(uuid.uuid4()), "body": {"user_id": user, "amount": "1", "currency": "USD"}},
    {"operation": "hold", "body": {"user_id": friend, "amount": "1", "currency": "USD"}},
    {"operation": "void", "body": {"hold_id": str(other.hold.id)}},
]
results = post_batch.sync(client=client, body=Batch.from_dict({"operations": operations})).results
assert [result.status for result in results] == [200, 200, 422], results
print("openapi-python-client: ok")
