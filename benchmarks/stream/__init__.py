"""The event stream benchmark: how many events go through a proxy until processors are busy.

Security at the message stands beside security by a tunnel: one publisher, one proxy that
holds no key of an envelope, and some subscribers, all of them processes. What is sent are
real events of Zeek. ``ways`` says what is compared, ``run`` what is measured, and
``bars`` what is claimed.

Run: ``make bench-stream``, or ``python benchmarks/stream --help``.
"""
