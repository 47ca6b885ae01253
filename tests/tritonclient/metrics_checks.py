"""The page of metrics, read by Prometheus' own parser."""

import urllib.request

from peer import check
from prometheus_client.openmetrics.parser import text_string_to_metric_families


@check
def the_metrics_page_is_read_by_prometheus_own_parser(peer):
    if not peer.metrics:
        return
    with urllib.request.urlopen(f"http://{peer.metrics}/metrics") as response:
        assert "openmetrics" in response.headers["Content-Type"]
        page = response.read().decode()
    samples = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            samples[sample.name, sample.labels.get("model")] = sample.value
    statistics = peer.grpc.get_inference_statistics("dense").model_stats[0]
    assert samples["nv_inference_count", "dense"] == statistics.inference_count > 0
    assert samples["nv_inference_exec_count", "dense"] == statistics.execution_count > 0
    assert samples["millgate_inference_rows_total", "dense"] == statistics.inference_count
