"""Which answer belongs to which question: A22.

The attacker owns the network, or is Carol, whom Alice believes but has not asked.
``Receiver`` holds every refusal to it that nothing was delivered and no replay state
has changed.
"""

from __future__ import annotations

import dataclasses

import pytest
from cast import ALICE, BOB
from forge import Forgery
from simulator import DELIVERED, Receiver

from envelope import Peer, message_id

each_kind = pytest.mark.parametrize("is_sealed", [False, True], ids=["signed", "sealed"])


@pytest.fixture
def alice(world):
    """Alice, who asks and waits for replies."""
    return Receiver(world.opener(world.alice))


def ask(world, is_sealed):
    """Return two requests of Alice's."""
    sealer = world.sealer(to=[BOB] if is_sealed else [])
    return sealer.seal(b"May I open the valve?"), sealer.seal(b"Is there tea?")


def answerer(world, is_sealed, who=None):
    return world.sealer(who or world.bob, to=[ALICE] if is_sealed else [])


@pytest.mark.audit("A22")
@each_kind
def test_a_reply_to_another_request_is_refused(world, alice, bob, is_sealed):
    """I exchange the answers to two requests: in_reply_to is signed, and compared at step 3."""
    valve, tea = ask(world, is_sealed)
    assert [bob.offer(valve), bob.offer(tea)] == [DELIVERED, DELIVERED]
    asked = [message.id for message in bob.delivered]
    assert asked == [message_id(valve), message_id(tea)]
    no, yes = (
        answerer(world, is_sealed).seal(word, in_reply_to=request)
        for word, request in zip((b"no", b"yes"), asked, strict=True)
    )
    assert alice.offer(yes, in_reply_to=asked[0]) == "policy"
    assert alice.offer(no, in_reply_to=asked[1]) == "policy"
    assert alice.offer(no, in_reply_to=asked[0]) == DELIVERED
    assert alice.offer(yes, in_reply_to=asked[1]) == DELIVERED
    assert alice.delivered[0].in_reply_to == asked[0]


@pytest.mark.audit("A22", "C2")
@each_kind
def test_the_request_cannot_be_rewritten_in_the_reply(world, alice, is_sealed):
    """I write the id of the other request into a reply: it is in HEAD, so step 8."""
    valve, tea = map(message_id, ask(world, is_sealed))
    yes = answerer(world, is_sealed).seal(b"yes", in_reply_to=tea)
    assert yes[80:112] == tea
    forged = yes[:80] + valve + yes[112:]
    assert alice.offer(forged, in_reply_to=valve) == "bad_signature"
    assert alice.offer(yes, in_reply_to=tea) == DELIVERED


@pytest.mark.audit("A22")
@each_kind
def test_a_reply_is_not_opened_as_a_request(world, alice, is_sealed):
    """I deliver a reply where Alice listens for requests, to have a "yes" carried out: step 3."""
    valve, _ = map(message_id, ask(world, is_sealed))
    reply = answerer(world, is_sealed).seal(b"yes", in_reply_to=valve)
    assert alice.offer(reply) == "policy"
    assert alice.offer_bundle(reply) == "policy"


@pytest.mark.audit("A22")
@each_kind
def test_a_request_is_not_opened_as_a_reply(world, alice, is_sealed):
    """I deliver a request of Bob's where Alice waits for an answer of his: step 3."""
    valve, _ = map(message_id, ask(world, is_sealed))
    request = answerer(world, is_sealed).seal(b"yes")
    assert alice.offer(request, in_reply_to=valve) == "policy"


@pytest.mark.audit("A22", "C2")
@each_kind
def test_the_reply_flag_can_be_neither_set_nor_cleared(world, alice, is_sealed):
    """I strip the request's id from a reply, or write one into a request: step 8."""
    valve, _ = map(message_id, ask(world, is_sealed))
    sealer = answerer(world, is_sealed)
    reply, request = sealer.seal(b"yes", in_reply_to=valve), sealer.seal(b"yes")
    stripped = reply[:5] + b"\0" + reply[6:80] + reply[112:]
    inserted = request[:5] + b"\2" + request[6:80] + valve + request[80:]
    assert alice.offer(stripped) == "bad_signature"
    assert alice.offer(inserted, in_reply_to=valve) == "bad_signature"


@pytest.mark.audit("A22")
@each_kind
def test_a_reply_is_delivered_once(world, alice, is_sealed):
    """I repeat a reply to whoever still waits: expected replies are exempt from cold alone."""
    valve, _ = map(message_id, ask(world, is_sealed))
    sealer = answerer(world, is_sealed)
    reply, request = sealer.seal(b"yes", in_reply_to=valve), sealer.seal(b"And you?")
    cold = Receiver(world.opener(world.alice, replay=world.store(first_life=False)))
    for receiver in (alice, cold):
        assert receiver.offer(reply, in_reply_to=valve) == DELIVERED
        assert receiver.offer(reply, in_reply_to=valve) == "replayed"
    assert cold.offer(request) == "before_start"


@pytest.mark.audit("A22", "C3")
@each_kind
def test_who_was_not_asked_cannot_answer_in_anothers_name(world, alice, is_sealed):
    """I am Carol, saw the request pass, know its id, and answer as Bob: step 8."""
    valve, _ = map(message_id, ask(world, is_sealed))
    mine = answerer(world, is_sealed, world.carol).seal(b"yes", in_reply_to=valve)
    assert alice.offer(mine[:8] + BOB.key_id + mine[24:], in_reply_to=valve) == "bad_signature"
    forged = Forgery.of(mine, world.carol, BOB)
    assert alice.offer(forged.encode(), in_reply_to=valve) == "bad_signature"


@pytest.mark.audit("A22", "C3")
@each_kind
def test_who_may_not_answer_here_is_refused_and_who_may_is_named(world, alice, is_sealed):
    """I am Carol, and answer in my own name, faster than Bob.

    Whoever may not send in the context of replies falls at step 4. A peer that may is
    named by ``message.sender``: the id of the request is no secret, so who was asked is
    for whoever asked to compare.
    """
    valve, _ = map(message_id, ask(world, is_sealed))
    mine = answerer(world, is_sealed, world.carol).seal(b"yes", in_reply_to=valve)
    others = [peer for peer in world.trust if peer.name != "carol"]
    carol = dataclasses.replace(world.trust["carol"], contexts=["chatter"])
    before = list(world.trust)
    world.trust.replace([*others, carol])
    assert alice.offer(mine, in_reply_to=valve) == "not_trusted"
    world.trust.replace(before)
    assert alice.offer(mine, in_reply_to=valve) == DELIVERED
    assert alice.delivered[0].sender.name == "carol"


@pytest.mark.audit("A22")
def test_each_message_of_a_bundle_has_an_answer_of_its_own(world, alice, bob):
    """I give the answer to one question of a bundle as that to another: the index is in the id."""
    requests = world.sealer().seal_bundle([b"May I open the valve?", b"Is there tea?"])
    assert bob.offer_bundle(requests) == DELIVERED
    valve, tea = (message.id for message in bob.delivered)
    assert [valve, tea] == [message_id(requests, 0), message_id(requests, 1)]
    yes = world.sealer(world.bob).seal(b"yes", in_reply_to=tea)
    assert alice.offer(yes, in_reply_to=valve) == "policy"
    assert alice.offer(yes, in_reply_to=tea) == DELIVERED


@pytest.mark.audit("A22", "C3")
def test_the_same_words_in_two_envelopes_are_two_requests(world):
    """I hope that two equal requests have one id, so that one answer serves both for ever."""
    sealer = world.sealer()
    ids = {message_id(sealer.seal(b"May I?")) for _ in range(10)}
    ids |= {message_id(world.sealer().seal(b"May I?")) for _ in range(10)}
    assert len(ids) == 20


@pytest.mark.audit("A22", "A5")
def test_a_reply_in_another_context_or_on_another_topic_is_refused(world, alice):
    """I carry a reply to the flow next door, where the same id is awaited: step 8."""
    request = message_id(world.sealer().seal(b"May I?"))
    reply = world.sealer(world.bob).seal(b"yes", bound=[b"valve"], in_reply_to=request)
    world.trust.replace([Peer("bob", BOB, contexts=["*"])])
    elsewhere = Receiver(world.opener(world.alice, context="billing"))
    assert elsewhere.offer(reply, bound=[b"valve"], in_reply_to=request) == "bad_signature"
    assert alice.offer(reply, bound=[b"pump"], in_reply_to=request) == "bad_signature"
    assert alice.offer(reply, bound=[b"valve"], in_reply_to=request) == DELIVERED
