"""The page of metrics in both formats, each read by Prometheus' own parser."""

import urllib.request

from peer import check
from prometheus_client import parser as classic
from prometheus_client.openmetrics import parser as open_metrics


def read(peer, accept, kind, parser):
    """Values by series, and types by family."""
    request = urllib.request.Request(f"http://{peer.metrics}/metrics", headers={"Accept": accept} if accept else {})
    with urllib.request.urlopen(request) as response:
        assert response.headers["Content-Type"].startswith(kind), response.headers["Content-Type"]
        page = response.read().decode()
    families = list(parser.text_string_to_metric_families(page))
    # What is a counter without `_total` in the classic format gets it from the parser.
    own = lambda name: name.removesuffix("_total") if name.startswith("nv_") else name  # noqa: E731
    values = {(own(s.name), tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}
    return values, {family.name: family.type for family in families}


@check
def the_metrics_page_is_read_by_prometheus_own_parsers(peer):
    if not peer.metrics:
        return
    opened, open_types = read(peer, "application/openmetrics-text", "application/openmetrics-text", open_metrics)
    plain, plain_types = read(peer, None, "text/plain; version=0.0.4", classic)
    assert opened.keys() == plain.keys()
    # The classic format has Triton's counters as Triton has them; OpenMetrics knows no counters of such names.
    assert (plain_types["nv_inference_count"], open_types["nv_inference_count"]) == ("counter", "unknown")
    assert plain_types["nv_inference_pending_request_count"] == "gauge"
    ours = lambda types: {n for n, t in types.items() if t == "counter" and not n.startswith("nv_")}  # noqa: E731
    assert ours(open_types) == ours(plain_types) and "millgate_inference_rows" in ours(plain_types)
    samples = {(name, dict(labels).get("model")): value for (name, labels), value in plain.items()}
    statistics = peer.grpc.get_inference_statistics("dense").model_stats[0]
    assert samples["nv_inference_count", "dense"] == statistics.inference_count > 0
    assert samples["nv_inference_exec_count", "dense"] == statistics.execution_count > 0
    assert samples["millgate_inference_rows_total", "dense"] == statistics.inference_count
