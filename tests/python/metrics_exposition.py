"""Reads an exposition with Prometheus's own Python parser and checks what that lets pass.

metrics_exposition.py FILE      prints the number of families and of samples
"""

import math
import sys

from prometheus_client.parser import text_string_to_metric_families


def check_histogram(family):
    series = {}
    for sample in family.samples:
        key = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
        entry = series.setdefault(key, {"buckets": [], "count": None, "sum": None})
        if sample.name.endswith("_bucket"):
            entry["buckets"].append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_count"):
            entry["count"] = sample.value
        elif sample.name.endswith("_sum"):
            entry["sum"] = sample.value
    for key, entry in series.items():
        bounds = [bound for bound, _ in entry["buckets"]]
        counts = [count for _, count in entry["buckets"]]
        assert bounds == sorted(bounds) and bounds[-1] == math.inf, (family.name, key)
        assert counts == sorted(counts) and counts[-1] == entry["count"], (family.name, key)
        assert entry["sum"] is not None, (family.name, key)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        text = file.read()
    assert text.endswith("\n")
    names = set()
    samples = set()
    for family in text_string_to_metric_families(text):
        assert family.name not in names, f"{family.name} comes twice"
        names.add(family.name)
        assert family.type != "unknown", f"{family.name} has no type"
        assert family.documentation, f"{family.name} has no help"
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples, f"{key} comes twice"
            samples.add(key)
            assert not math.isnan(sample.value), key
        if family.type == "histogram":
            check_histogram(family)
    print(len(names), len(samples))


main()
