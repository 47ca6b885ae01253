//! The span of one request for a served model, and its phases.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{Span as _, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};

use super::request::Phases;
use super::served::Served;
use super::statistics::Outcome;
use crate::failure::Failure;
use crate::trace::call::Recorder;

/// Texts that a client may choose, or quote itself into, are cut: the queue of spans is bounded by their number.
const LONGEST_TEXT: usize = 256;

/// Costs a look at the thread's context where nothing is traced.
#[derive(Debug)]
pub(super) struct Inference {
    traced: Option<Traced>,
}

#[derive(Debug)]
struct Traced {
    recorder: Arc<Recorder>,
    context: Context,
    arrived: SystemTime,
    has_ended: bool,
}

impl Inference {
    /// A child of the current call's span, if that is recorded.
    pub(super) fn begin(served: &Served, id: &str, arrived: Instant) -> Self {
        let current = Context::map_current(|current| {
            current.get::<Arc<Recorder>>().map(|recorder| (Arc::clone(recorder), current.clone()))
        });
        let Some((recorder, parent)) = current else { return Self { traced: None } };
        let now = SystemTime::now();
        let arrived = now.checked_sub(arrived.elapsed()).unwrap_or(now);
        let mut attributes = vec![
            KeyValue::new("millgate.model", served.name.clone()),
            KeyValue::new("millgate.version", served.version.to_string()),
            KeyValue::new("millgate.engine", served.model.engine().to_owned()),
        ];
        if !id.is_empty() {
            attributes.push(KeyValue::new("millgate.request_id", shortened(id)));
        }
        let builder =
            recorder.tracer.span_builder("infer").with_start_time(arrived).with_attributes(attributes);
        let span = recorder.tracer.build_with_context(builder, &parent);
        Self { traced: Some(Traced { context: parent.with_span(span), recorder, arrived, has_ended: false }) }
    }

    /// The answer was kept.
    pub(super) fn cached(&mut self) {
        if let Some(traced) = &self.traced {
            traced.context.span().set_attribute(KeyValue::new("millgate.cache_hit", true));
        }
    }

    /// Each part's phases.
    pub(super) fn computed<'a>(&mut self, parts: impl Iterator<Item = &'a Phases>) {
        let Some(traced) = &self.traced else { return };
        let tracer = &traced.recorder.tracer;
        for phases in parts {
            for (name, start, end) in intervals(traced.arrived, phases) {
                let mut builder = tracer.span_builder(name).with_start_time(start);
                if name == COMPUTE {
                    let rows = KeyValue::new("millgate.batch_rows", phases.batch as i64);
                    builder = builder.with_attributes([rows]);
                }
                tracer.build_with_context(builder, &traced.context).end_with_timestamp(end);
            }
        }
    }

    pub(super) fn end(mut self, failure: Option<&Failure>) {
        let Some(traced) = &mut self.traced else { return };
        traced.has_ended = true;
        let span = traced.context.span();
        let now = SystemTime::now();
        match failure {
            None => {
                traced.recorder.answered(Some(now));
            }
            Some(failure) => {
                span.set_attribute(KeyValue::new("error.type", Outcome::of(failure).as_str()));
                span.set_status(Status::error(shortened(&failure.to_string())));
            }
        }
        span.end_with_timestamp(now);
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // Dropped unanswered: the deadline ended it, or its caller went away. The call's own span tells which.
        if !self.has_ended {
            self.context.span().set_status(Status::error("dropped before it was answered"));
            self.context.span().end();
        }
    }
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST_TEXT)].to_owned()
}

const COMPUTE: &str = "compute";

/// Phases, one after the other; what took no time was not there.
fn intervals(arrived: SystemTime, phases: &Phases) -> Vec<(&'static str, SystemTime, SystemTime)> {
    let mut from = arrived;
    let mut intervals = Vec::with_capacity(4);
    for (name, took) in
        [("queue", phases.queue), ("join", phases.join), (COMPUTE, phases.compute), ("split", phases.split)]
    {
        let to = from.checked_add(took).unwrap_or(from);
        if took > Duration::ZERO {
            intervals.push((name, from, to));
        }
        from = to;
    }
    intervals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_each_other_from_arrival() {
        let (arrived, ms) = (SystemTime::UNIX_EPOCH, Duration::from_millis);
        let phases = Phases { queue: ms(3), join: ms(0), compute: ms(5), split: ms(1), batch: 2 };
        let at = |millis| arrived + ms(millis);
        assert_eq!(
            intervals(arrived, &phases),
            [("queue", at(0), at(3)), ("compute", at(3), at(8)), ("split", at(8), at(9))]
        );
        assert!(intervals(arrived, &Phases::default()).is_empty());
    }
}
