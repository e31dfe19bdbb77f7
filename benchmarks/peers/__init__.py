"""What a message costs with this library and with its peers, side by side in one run.

Rules of this package:

- Each way to carry a message is used through its Python API as its own documentation
  says, with its keys prepared outside the clock. Where it can bind a context or check an
  age at the price of one more argument, it does.
- Writing is from the payload to the bytes that travel, reading from these to the payload.
- Each round begins with new ends and one message outside the clock, so that what a way
  does once for many messages is not counted; messages are distinct and read once.
- All ways take turns in each round, from first to last and in the next from last to
  first. A ratio is taken within a round; tables show the median of the rounds.
- What a way is said to do, to refuse a changed or a repeated message, is tried before it
  is measured.
- A way that cannot be measured keeps its row, with the reason.

``ways`` says what a way is; ``raw``, ``ours``, ``tokens``, ``containers`` and ``agreed``
have them; ``run`` measures; ``bars``, ``tables`` and ``words`` say what came out.
"""
