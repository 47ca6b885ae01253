//! Which format of the page a client's `Accept` asks for.

use super::Format;

/// The versions of OpenMetrics whose readers take version 1.0.0; a client that names none takes any.
const VERSIONS: [&str; 2] = ["1.0.0", "0.0.1"];

/// Rank of a format: by weight, then by how early it is named. A larger rank is better.
type Rank = (f32, std::cmp::Reverse<usize>);

/// Chooses OpenMetrics if a client likes it better than plain text, or as well and names it first. A client that
/// takes neither gets plain text all the same: more than nothing.
pub(super) fn choose<'a>(accept: impl IntoIterator<Item = &'a [u8]>) -> Format {
    let values = accept.into_iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(",");
    let ranges: Vec<Range<'_>> = values.split(',').filter_map(Range::read).collect();
    let (open, plain) = (rank(&ranges, Range::of_open_metrics), rank(&ranges, Range::of_plain_text));
    match (open, plain) {
        (Some(open), Some(plain)) if open > plain => Format::OpenMetrics,
        (Some(_), None) => Format::OpenMetrics,
        _ => Format::Classic,
    }
}

/// Best rank among the ranges that name a format most closely; `None` if the format is not wanted.
fn rank<'a>(ranges: &[Range<'a>], fit: impl Fn(&Range<'a>) -> u8) -> Option<Rank> {
    let closest = ranges.iter().map(&fit).max().filter(|closest| *closest > 0)?;
    let fitting = ranges.iter().enumerate().filter(|(_, range)| fit(range) == closest);
    let ranks = fitting.map(|(at, range)| (range.weight, std::cmp::Reverse(at)));
    let best = ranks.max_by(|(a, first), (b, second)| a.total_cmp(b).then(first.cmp(second)))?;
    (best.0 > 0.0).then_some(best)
}

/// One item of the header.
#[derive(Debug)]
struct Range<'a> {
    kind: String,
    version: Option<&'a str>,
    /// Quality value, from 0 to 1.
    weight: f32,
}

impl<'a> Range<'a> {
    /// Reads one item of the header; `None` if it is empty.
    fn read(item: &'a str) -> Option<Self> {
        let mut parts = item.split(';').map(str::trim);
        let kind = parts.next().filter(|kind| !kind.is_empty())?.to_ascii_lowercase();
        let (mut version, mut weight) = (None, 1.0);
        for parameter in parts {
            let Some((name, value)) = parameter.split_once('=') else { continue };
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name.eq_ignore_ascii_case("q") {
                weight = value.parse().ok().filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(1.0);
            } else if name.eq_ignore_ascii_case("version") {
                version = Some(value);
            }
        }
        Some(Self { kind, version, weight })
    }

    /// Closeness with which the range names OpenMetrics; 0 if it does not.
    fn of_open_metrics(&self) -> u8 {
        match self.kind.as_str() {
            "application/openmetrics-text" if self.version.is_none_or(|it| VERSIONS.contains(&it)) => 3,
            "application/*" => 2,
            "*/*" => 1,
            _ => 0,
        }
    }

    /// Closeness with which the range names the classic format; 0 if it does not.
    fn of_plain_text(&self) -> u8 {
        match self.kind.as_str() {
            "text/plain" if self.version.is_none_or(|it| it == "0.0.4") => 3,
            "text/*" => 2,
            "*/*" => 1,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrapers_get_what_they_ask_for_and_the_others_plain_text() {
        for (accept, expected) in [
            // Prometheus 2 and 3, the second with and without native histograms.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                 text/plain;version=0.0.4;q=0.2,/;q=0.1",
                Format::OpenMetrics,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                 text/plain;version=0.0.4;q=0.6,*/*;q=0.1",
                Format::Classic,
            ),
            // Telegraf, and what asks for the format that it can read.
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,\
                 text/plain;version=0.0.4;q=0.3",
                Format::Classic,
            ),
            ("text/plain; version=0.0.4; charset=utf-8", Format::Classic),
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", Format::OpenMetrics),
            ("application/openmetrics-text; version=\"1.0.0\"", Format::OpenMetrics),
            ("APPLICATION/OpenMetrics-Text", Format::OpenMetrics),
            ("application/*", Format::OpenMetrics),
            // A browser, curl, and nobody in particular.
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Format::Classic),
            ("*/*", Format::Classic),
            ("text/*", Format::Classic),
            ("", Format::Classic),
            (" , ;q=1", Format::Classic),
            ("application/json", Format::Classic),
            // Weights, and the order where they are the same.
            ("text/plain, application/openmetrics-text", Format::Classic),
            ("application/openmetrics-text, text/plain", Format::OpenMetrics),
            ("application/openmetrics-text;q=0.3, text/plain;q=0.4", Format::Classic),
            ("application/openmetrics-text;q=0.3, */*;q=0.2", Format::OpenMetrics),
            ("application/openmetrics-text;q=0", Format::Classic),
            ("application/openmetrics-text;q=0, */*", Format::Classic),
            ("text/plain;q=0, */*", Format::OpenMetrics),
            ("application/openmetrics-text;version=2.0.0", Format::Classic),
            ("application/openmetrics-text;q=many", Format::OpenMetrics),
        ] {
            assert_eq!(choose([accept.as_bytes()]), expected, "{accept}");
        }
        assert_eq!(choose([]), Format::Classic);
        assert_eq!(choose([&b"text/plain;q=0.2"[..], b"application/openmetrics-text"]), Format::OpenMetrics);
        assert_eq!(choose([&b"\xff\xfe"[..]]), Format::Classic);
    }
}
