"""Profiles for property tests: a short one for every run, a long one for `make deep`. Each failure prints how to replay it."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("short", max_examples=60, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", max_examples=5_000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("deep" if os.environ.get("FINRESILIENCE_DEEP") else "short")
