"""Drives the console in a real browser, on a real cluster: `make console-test` starts both and runs this.

Every step says in one line what it found. The first one that fails ends the run with a picture of the page beside the
others, in the folder of CONSOLE_TEST_PICTURES.
"""

import os
import re
import sys
import time
import uuid
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from cluster import CLUSTER_FILE, Load, freeze_node, make_user, money, picopay, post, thaw_node

URL = os.environ["CONSOLE_TEST_URL"]
PICTURES = Path(os.environ["CONSOLE_TEST_PICTURES"])
BROWSER = os.environ.get("PICOPAY_CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# For a machine that is busy with other tests: conditions are waited for, never a time.
PATIENCE_MS = 60_000
# Beyond what a browser's numbers hold: one off, and it is another user.
LARGEST = 9223372036854775807

expect.set_options(timeout=PATIENCE_MS)


def step(text):
    print(f"ok: {text}", flush=True)


def colour(page, slot):
    """The colour in the middle of a slot's upper left half, where its owner's colour is."""
    return page.evaluate(
        """(slot) => {
            const canvas = document.getElementById("slot-map");
            const cell = canvas.width / 64;
            const at = (place) => Math.floor((place + 0.35) * cell);
            const context = canvas.getContext("2d");
            return [...context.getImageData(at(slot % 64), at(Math.floor(slot / 64)), 1, 1).data].join();
        }""",
        slot,
    )


def wait_for_colour(page, slot, wanted):
    """Asks again and again from outside: the page's policy lets nobody evaluate a text inside it."""
    end = time.monotonic() + PATIENCE_MS / 1000
    while (found := colour(page, slot)) != wanted:
        assert time.monotonic() < end, f"slot {slot} is {found} and not {wanted}"
        page.wait_for_timeout(50)


def read_out(page, slot, wanted):
    """Walks to a slot with the keys, and reads what a screen reader reads."""
    slider = page.get_by_role("slider", name="Slot")
    slider.focus()
    page.keyboard.press("Home")
    for _ in range(slot // 64):
        page.keyboard.press("ArrowDown")
    for _ in range(slot % 64):
        page.keyboard.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuenow", str(slot))
    expect(slider).to_have_attribute("aria-valuetext", wanted)
    expect(page.locator("#slot-readout")).to_have_text(wanted)


def a_cluster_is_shown(page):
    expect(page.locator("#health-text")).to_have_text("All is well")
    expect(page.locator("#slots-summary")).to_have_text("4,096 slots, each owned by one of 2 shards")
    for shard in ["shard-1", "shard-2"]:
        card = page.get_by_role("article", name=shard)
        for word in ["Primary", "synchronous standby", "Replica", "Node", "ready", "Redis", "2,048 slots"]:
            expect(card).to_contain_text(word)
        row = page.locator("#slot-rows tr", has_text=shard)
        expect(row).to_contain_text("2,048")
    expect(page.locator("#transfers-body")).to_contain_text("none")
    step("the shards, their parts and their slots are there, in words")


def charges_move_the_chart(page, user_id):
    expect(page.locator("#charges-now")).to_have_text("0")
    blank = page.locator("#charges-chart canvas").evaluate("canvas => canvas.toDataURL()")
    with Load(user_id):
        expect(page.locator("#charges-now")).to_have_text(re.compile(r"^[1-9]"))
        expect(page.locator("#latency-now")).to_have_text(re.compile(r"^p50 [\d.,]+ m?s, p99 [\d.,]+ m?s$"))
        page.locator("#numbers summary").click()
        expect(page.locator("#number-rows tr").first.locator("td").first).to_have_text(re.compile(r"^[1-9]"))
        page.locator("#numbers summary").click()
        drawn = page.locator("#charges-chart canvas").evaluate("canvas => canvas.toDataURL()")
    assert drawn != blank, "the chart is as it was"
    step("charges, p50 and p99 are shown while users charge, and the chart has moved")


def slots_change_colour(page):
    page.evaluate("window.isTheSamePage = true")
    [first, second] = [colour(page, 0), colour(page, 4095)]
    assert first != second, f"both shards are {first}"
    read_out(page, 130, "Slot 130: shard-1")
    # What the card says when the table changes: both are of one moment, and the status comes later.
    page.evaluate("""() => new MutationObserver(() => {
        const row = [...document.querySelectorAll("#slot-rows tr")].find((one) => one.textContent.includes("shard-2"));
        if (row?.querySelector("td").textContent !== "2,176") return;
        window.cardThen ??= document.querySelector('[aria-label="shard-2"]').textContent;
    }).observe(document.getElementById("slot-rows"), { childList: true })""")
    picopay("slot", "move", "128-255", "--to", "shard-2")
    wait_for_colour(page, 130, second)
    wait_for_colour(page, 255, second)
    assert colour(page, 127) == first and colour(page, 256) == first, "the others are as they were"
    expect(page.locator("#slot-rows tr", has_text="shard-2")).to_contain_text("128–255, 2048–4095")
    card = page.evaluate("window.cardThen")
    assert "2,176 slots" in (card or ""), f"the card said {card}"
    # In batches, of which those of one moment are told together.
    expect(page.locator("#change-list")).to_contain_text(re.compile(r"slots are now at shard-2: [\d–]+–255"))
    read_out(page, 130, "Slot 130: shard-2")
    page.screenshot(path=PICTURES / "moved.png", full_page=True)
    picopay("rebalance")
    expect(page.locator("#slots-summary")).to_have_text("4,096 slots, each owned by one of 2 shards")
    expect(page.locator("#slot-rows tr", has_text="shard-1").locator("td").first).to_have_text("2,048")
    assert page.evaluate("window.isTheSamePage") is True, "the page was loaded anew"
    step("slots changed hands, and with them colour, table, log and what is read out, without a reload")


def a_user_and_a_transaction_are_found(page, user_id, charge, hold, transfer):
    page.get_by_label("User or transaction, by id").fill(str(user_id))
    page.keyboard.press("Enter")
    found = page.get_by_role("region", name=f"User {user_id}")
    expect(found.get_by_role("heading", name=f"User {user_id}")).to_be_focused()
    for words in ["USD", "held", "Holds", "History", "Balance after"]:
        expect(found).to_contain_text(words)
    expect(found.locator(".balance strong")).to_have_text("938.00")
    expect(found.locator(".balance")).to_contain_text("918.00 available, 20.00 held")
    expect(found.get_by_role("region", name="Holds")).to_contain_text("open")
    history = found.get_by_role("region", name="History, the newest first")
    expect(history.locator("tbody tr")).to_have_count(4)
    for words in ["transfer out", "hold", "charge", "top-up", "−50.00 USD", "+1000.00 USD"]:
        expect(history).to_contain_text(words)
    page.screenshot(path=PICTURES / "user.png")
    history.locator("tbody tr", has_text="charge").get_by_role("link").click()
    found = page.get_by_role("region", name="Transaction")
    for words in [charge["id"], "charge", "50.00 USD", f"user {user_id}", "order-1", '"basket":12345678901234567890', "dev"]:
        expect(found).to_contain_text(words)
    for (transaction, words) in [(hold, "The hold that it began"), (transfer, "The transfer that it began")]:
        page.get_by_label("User or transaction, by id").fill(transaction["id"])
        page.get_by_role("button", name="Look up").click()
        expect(page.locator("#found-body")).to_contain_text(words)
    expect(page.locator("#found-body")).to_contain_text("completed")
    page.locator("#found-body").get_by_role("link", name=f"user {LARGEST}").click()
    expect(page.get_by_role("heading", name=f"User {LARGEST}")).to_be_visible()
    expect(page.locator("#found .balance strong")).to_have_text("12.00")
    page.go_back()
    expect(page.get_by_role("heading", name="Transaction")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#found")).to_be_hidden()
    step("a user with balances, holds and history, and a transaction, a hold and a transfer by id")


def what_is_not_there_is_said(page):
    search = page.get_by_label("User or transaction, by id")
    for text, words in [("77777777", "there is no user 77777777"), (str(uuid.uuid4()), "there is no transaction")]:
        search.fill(text)
        page.keyboard.press("Enter")
        expect(page.locator("#found-body")).to_contain_text(words)
    page.keyboard.press("Escape")
    expect(page.locator("#found")).to_be_hidden()
    search.fill("somebody")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("a user's id, which is a number")
    step("what is not there is said in words")


def older_history_comes_on_demand(page, user_id):
    page.goto(f"{URL}#/users/{user_id}")
    rows = page.get_by_role("region", name="History, the newest first").locator("tbody tr")
    expect(rows).to_have_count(50)
    older = page.get_by_role("button", name="Older transactions")
    older.click()
    expect(rows).to_have_count(61)
    expect(older).to_be_hidden()
    ids = rows.get_by_role("link").evaluate_all("links => links.map((link) => link.href)")
    assert len(set(ids)) == 61, "no line is there twice"
    page.get_by_role("button", name="Close").click()
    step("a link leads to a user, and older history comes page by page")


def a_silent_node_and_a_pending_transfer(page, sender, recipient):
    freeze_node(1)
    try:
        expect(page.locator("#health-text")).to_have_text("1 problem")
        expect(page.get_by_role("article", name="shard-2")).to_contain_text("down")
        expect(page.locator("#problem-list")).to_contain_text("node of shard-2")
        body = {"from_user_id": sender, "to_user_id": recipient, "amount": "3.00", "currency": "USD"}
        made = post("/transfers", body, 202)["transfer"]
        pending = page.get_by_role("region", name="Pending transfers, the oldest first")
        for words in ["3.00 USD", f"user {sender}", f"user {recipient}"]:
            expect(pending).to_contain_text(words)
        page.screenshot(path=PICTURES / "trouble.png", full_page=True)
        pending.get_by_role("link", name="3.00 USD").click()
        expect(page.locator("#found-body")).to_contain_text("pending")
        expect(page.locator("#found-body")).to_contain_text(made["id"])
        page.get_by_role("button", name="Close").click()
    finally:
        thaw_node(1)
    expect(page.locator("#health-text")).to_have_text("All is well")
    expect(page.locator("#transfers-body")).to_contain_text("Every transfer has ended")
    for words in ["Not well: node of shard-2", "Well again: node of shard-2"]:
        expect(page.locator("#change-list")).to_contain_text(words)
    step("a node that is silent and a transfer that waits are told, and that they are well again")


def the_last_verify_is_shown(page):
    expect(page.locator("#verify-body")).to_contain_text("picopay verify --report")
    report = Path(CLUSTER_FILE).parent / "verify.json"
    picopay("verify", "--report", str(report))
    expect(page.locator("#verify-body")).to_contain_text("proven: nothing is wrong")
    expect(page.get_by_role("region", name="The books, by currency")).to_contain_text("USD")
    page.get_by_text("promises, one by one").click()
    expect(page.get_by_role("region", name="Promises")).to_contain_text("a user's idempotency key has one transaction")
    step("the last verify is shown as soon as it has ended")


def the_keyboard_leads_through_the_page(page):
    page.goto(URL)
    expect(page.locator("#health-text")).to_have_text("All is well")
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            """() => {
                const one = document.activeElement;
                const style = getComputedStyle(one);
                const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
                return [one.textContent.trim() || one.id, one.matches(":focus-visible") && seen];
            }"""
        )
        reached.append(focused)
    names = [name for name, _ in reached]
    wanted = ["Skip to the content", "search-text", "Look up", "Slots", "Traffic", "Shards", "Transfers", "Last verify", "Changes", "slot-map"]
    assert names[: len(wanted)] == wanted, names
    assert all(is_seen for _, is_seen in reached), reached
    page.goto(URL)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    step("Tab leads through the page in the order in which it reads, and shows where it is")


def a_screen_reader_finds_its_way(page):
    for role in ["banner", "navigation", "main", "contentinfo", "search"]:
        expect(page.get_by_role(role)).to_have_count(1)
    for name in ["Slots", "Traffic", "Shards", "Pending transfers", "Last verify"]:
        expect(page.get_by_role("heading", name=name, exact=True)).to_have_count(1)
    expect(page.get_by_role("log")).to_have_attribute("aria-live", "polite")
    expect(page.get_by_role("status")).to_contain_text("All is well")
    expect(page.get_by_role("img", name=re.compile("^Charges a second: .* in the last ten minutes"))).to_have_count(1)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("a, button, input, canvas[tabindex], table, [role=region], [role=img]")]
            .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.length))
            .map((one) => one.outerHTML)"""
    )
    assert nameless == [], nameless
    step("landmarks, headings, a log that speaks, and a name for everything that can be reached")


def words_are_dark_enough(page):
    """WCAG 2.2, 1.4.3: 4.5 to 1 for text of usual size."""
    low = page.evaluate(
        """() => {
            const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
            const channel = (part) => ((part /= 255) <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
            const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
            const paper = (one) => {
                for (let at = one; at; at = at.parentElement) {
                    const found = parse(getComputedStyle(at).backgroundColor);
                    if (found.length === 3 || found[3] === 1) return found;
                }
                return [255, 255, 255];
            };
            const low = [];
            for (const one of document.querySelectorAll("body *")) {
                const says = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
                if (!says || one.closest("[hidden], .hidden-text, noscript, .sections, .skip") || one.closest("button:not(.plain)")) continue;
                const [ink, ground] = [light(parse(getComputedStyle(one).color)), light(paper(one))];
                const contrast = (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
                if (contrast < 4.5) low.push([contrast.toFixed(2), one.textContent.trim().slice(0, 40)]);
            }
            return low;
        }"""
    )
    assert low == [], low


def both_widths_hold_it(browser, watch, user_id):
    for width, scheme in [(1280, "light"), (400, "light"), (1280, "dark"), (400, "dark")]:
        size = {"width": width, "height": 900}
        page = browser.new_page(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        watch(page)
        page.goto(f"{URL}#/users/{user_id}")
        expect(page.locator("#health-text")).to_have_text("All is well")
        expect(page.locator("#found .balance strong")).to_be_visible()
        expect(page.locator("#charges-chart canvas")).to_be_visible()
        [inner, content] = page.evaluate("[document.documentElement.clientWidth, document.documentElement.scrollWidth]")
        assert content <= inner, f"{width}: the page is {content} wide"
        words_are_dark_enough(page)
        page.screenshot(path=PICTURES / f"{width}-{scheme}.png", full_page=True)
        page.close()
    step("at 400 and 1280 pixels nothing hangs over, light and dark, and words stand out from their ground")


def nothing_moves_for_whoever_wants_stillness(browser, watch):
    page = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    watch(page)
    page.goto(URL)
    expect(page.locator("#health-text")).to_have_text("All is well")
    page.evaluate(
        """() => {
            window.frames_asked = 0;
            const ask = window.requestAnimationFrame;
            window.requestAnimationFrame = (told) => { window.frames_asked += 1; return ask(told); };
        }"""
    )
    second = colour(page, 4095)
    picopay("slot", "move", "0", "--to", "shard-2")
    wait_for_colour(page, 0, second)
    assert page.evaluate("window.frames_asked") == 0, "the map was animated"
    picopay("slot", "move", "0", "--to", "shard-1")
    page.close()
    step("with prefers-reduced-motion slots change colour at once, without an animation")


def run(browser):
    errors, elsewhere = [], []

    def watch(page):
        # The browser warns of the test itself, which reads the map's pixels.
        page.on("console", lambda said: errors.append(said.text) if said.type in ("error", "warning") and "willReadFrequently" not in said.text else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith(URL) else elsewhere.append(asked.url))

    # User 1 is of the second shard, user 2 of the first; the largest id wherever it hashes to.
    for user_id, amount in [(1, "100.00"), (2, "1000.00"), (3, "500.00"), (LARGEST, "10.00")]:
        make_user(user_id, amount)
    charge = post("/charge", money(2, "50.00", reference="order-1", metadata={"basket": 12345678901234567890}))["transaction"]
    hold = post("/holds", money(2, "20.00"))["hold"]
    body = {"from_user_id": 2, "to_user_id": LARGEST, "amount": "12.00", "currency": "USD"}
    post("/charge", money(LARGEST, "10.00"))
    transfer = post("/transfers", body)["transfer"]
    for _ in range(60):
        post("/charge", money(1, "0.10"))

    page = browser.new_page(viewport={"width": 1280, "height": 900})
    watch(page)
    answer = page.goto(URL)
    assert answer.headers["content-security-policy"] == "default-src 'self'", answer.headers
    try:
        a_cluster_is_shown(page)
        charges_move_the_chart(page, 3)
        slots_change_colour(page)
        a_user_and_a_transaction_are_found(page, 2, charge, hold, transfer)
        older_history_comes_on_demand(page, 1)
        the_last_verify_is_shown(page)
        expected = len(errors)
        what_is_not_there_is_said(page)
        # The browser itself notes each answer that is not 200.
        answers = [error for error in errors[expected:] if "404" in error]
        assert len(answers) == 2, errors
        del errors[expected:]
        a_silent_node_and_a_pending_transfer(page, 2, 1)
        the_keyboard_leads_through_the_page(page)
        a_screen_reader_finds_its_way(page)
        nothing_moves_for_whoever_wants_stillness(browser, watch)
        both_widths_hold_it(browser, watch, 2)
    except BaseException:
        page.screenshot(path=PICTURES / "failed.png", full_page=True)
        print(f"errors of the page: {errors}", file=sys.stderr)
        raise
    assert errors == [], errors
    assert elsewhere == [], elsewhere
    step("no error, no refusal by the policy, and not one request to anybody else")


with sync_playwright() as playwright:
    started = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
    run(started)
    started.close()
