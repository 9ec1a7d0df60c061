"""A client that openapi-python-client made: charges, replays, reads history."""
import datetime, random, sys, uuid
sys.path.insert(0, sys.argv[3])
from picopay_client.client import AuthenticatedClient
from picopay_client.api.users import post_users, get_balance
from picopay_client.api.money import post_topup, post_charge, post_refund
from picopay_client.api.transactions import get_transactions, get_transaction
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
print("openapi-python-client: ok")
