//! A page of OpenMetrics in Prometheus' text format 0.0.4.
//!
//! There a family has its samples' name: a counter's ends in `_total`, an info's in `_info` (it is a gauge of 1). What is
//! `unknown` has a type that the caller names. Units, exemplars, times of creation and the end mark are OpenMetrics' own and
//! are left out.

/// Name and text of a `# HELP` line, kept until the family's type is known.
type Help<'a> = (&'a str, &'a str);

/// Writes a page in the classic format. `page` must be OpenMetrics as the registry writes it; `unknown` is the
/// classic type of its metrics of type `unknown`.
pub(super) fn from_open_metrics(page: &str, unknown: &str) -> String {
    let mut text = String::with_capacity(page.len());
    let mut help: Option<Help<'_>> = None;
    // Of which no sample may be written.
    let mut created = String::new();
    for line in page.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            if !is_of(line, &created) {
                push(&mut text, &["", sample(line), "\n"]);
            }
            continue;
        };
        let mut words = comment.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("HELP"), Some(family), words) => help = Some((family, words.unwrap_or_default())),
            (Some("TYPE"), Some(family), Some(kind)) => {
                let (suffix, kind) = in_classic(kind, unknown);
                if let Some((_, words)) = help.take().filter(|(of, _)| *of == family) {
                    push(&mut text, &["# HELP ", family, suffix, " ", &unquoted(words), "\n"]);
                }
                push(&mut text, &["# TYPE ", family, suffix, " ", kind, "\n"]);
                created = format!("{family}_created");
            }
            // `# UNIT` and `# EOF`.
            _ => {}
        }
    }
    text
}

fn push(text: &mut String, parts: &[&str]) {
    parts.iter().for_each(|part| text.push_str(part));
}

/// Suffix that is added to a family's name, and the classic name of its type.
fn in_classic<'a>(kind: &'a str, unknown: &'a str) -> (&'static str, &'a str) {
    match kind {
        "counter" => ("_total", kind),
        "info" => ("_info", "gauge"),
        "stateset" => ("", "gauge"),
        "unknown" => ("", unknown),
        "gaugehistogram" => ("", "untyped"),
        kind => ("", kind),
    }
}

/// True if `line` is a sample of the metric `name`.
fn is_of(line: &str, name: &str) -> bool {
    let rest = line.strip_prefix(name).filter(|_| !name.is_empty());
    rest.is_some_and(|rest| rest.starts_with([' ', '{']))
}

/// Help text without the escapes of quotes, which OpenMetrics alone has.
fn unquoted(help: &str) -> String {
    let (mut text, mut letters) = (String::with_capacity(help.len()), help.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('"') => text.push('"'),
                Some('n') => text.push_str("\\n"),
                Some('\\') | None => text.push_str("\\\\"),
                Some(other) => {
                    text.push_str("\\\\");
                    text.push(other);
                }
            },
            other => text.push(other),
        }
    }
    text
}

/// `line` without its exemplar.
fn sample(line: &str) -> &str {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b'#' if !is_quoted => return line.get(..at).unwrap_or(line).trim_end(),
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::exemplar::{CounterWithExemplar, HistogramWithExemplars};
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::info::Info;
    use prometheus_client::registry::{Registry, Unit};

    use super::*;

    #[test]
    fn each_kind_of_metric_has_its_classic_form() {
        let mut registry = Registry::with_prefix("m");
        registry.register("build", "This binary", Info::new([("version", "1")]));
        let calls = Family::<[(&str, &str); 1], Counter>::default();
        calls.get_or_create(&[("who", "a # {b} \"c\" \\ d")]).inc_by(3);
        registry.register("calls", "Calls", calls);
        registry.register_with_unit("waited", "Time", Unit::Seconds, Gauge::<i64>::default());
        let traced = CounterWithExemplar::<[(&str, &str); 1]>::default();
        traced.inc_by(2, Some([("trace_id", "x # y")]), None);
        registry.register("traced", "Calls that were traced", traced);
        let sizes = HistogramWithExemplars::new([1.0].into_iter());
        sizes.observe(0.5, Some([("trace_id", "z")]), None);
        registry.register("sizes", "Sizes", sizes);
        let page = super::super::render(super::super::Format::OpenMetrics, &registry, None);
        assert!(
            page.contains(" # {trace_id=") && page.contains("# UNIT ") && page.contains("# EOF"),
            "{page}"
        );
        assert_eq!(
            from_open_metrics(&page, "untyped"),
            "# HELP m_build_info This binary.\n# TYPE m_build_info gauge\nm_build_info{version=\"1\"} 1\n\
             # HELP m_calls_total Calls.\n# TYPE m_calls_total counter\n\
             m_calls_total{who=\"a # {b} \\\"c\\\" \\\\ d\"} 3\n\
             # HELP m_waited_seconds Time.\n# TYPE m_waited_seconds gauge\nm_waited_seconds 0\n\
             # HELP m_traced_total Calls that were traced.\n# TYPE m_traced_total counter\nm_traced_total 2\n\
             # HELP m_sizes Sizes.\n# TYPE m_sizes histogram\nm_sizes_sum 0.5\nm_sizes_count 1\n\
             m_sizes_bucket{le=\"1.0\"} 1\nm_sizes_bucket{le=\"+Inf\"} 1\n"
        );
    }

    #[test]
    fn what_only_openmetrics_knows_is_left_out_or_renamed() {
        let page = "# TYPE a unknown\na 1\n# TYPE b counter\n# HELP c Other\nb_total 2\nb_created 1.5e9\nb_created{x=\"y\"} 1\n\
                    # HELP d Says \\\"so\\\" \\\\ and\\nmore\n# TYPE d stateset\nd{d=\"on\"} 1\n# EOF\n";
        assert_eq!(
            from_open_metrics(page, "untyped"),
            "# TYPE a untyped\na 1\n# TYPE b_total counter\nb_total 2\n\
             # HELP d Says \"so\" \\\\ and\\nmore\n# TYPE d gauge\nd{d=\"on\"} 1\n"
        );
        assert_eq!(from_open_metrics("# EOF\n", "untyped"), "");
        assert!(from_open_metrics(page, "counter").starts_with("# TYPE a counter\na 1\n"));
    }
}
