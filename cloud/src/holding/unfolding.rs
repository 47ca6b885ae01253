//! What a message takes in memory beyond its bytes once it is read: a byte of it can be an integer of eight, and two an empty
//! string of thirty-two. Pure: it is told the message's bytes as they pass, and what they will cost before they are read.
//!
//! Only the fields that lists of elements lie in are gone into; submessages that are repeated are bounded in number elsewhere.

/// A packed byte is an integer of up to eight, three times over while its list grows.
const INTEGER: u64 = 24;
/// A packed byte is an integer of up to four, three times over.
const SHORT: u64 = 12;
/// Values as wide as on the wire, once more while their list grows.
const AS_WIDE: u64 = 2;
/// Place of a string in a list, three times over.
const TEXT: u64 = 96;
/// Longest way into a message.
const DEEPEST: usize = 4;

/// Kind of a message, with those of its fields that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `inference.ModelInferRequest`, its inputs, and their contents.
    Infer,
    InferInput,
    Contents,
    /// `millgate.v1.RunExpertsRequest`; parts and tensors, which have shapes.
    RunExperts,
    Shaped,
    /// `millgate.v1.DecideRequest`, and its sample.
    Decide,
    Sample,
}

/// What a field of a message costs.
#[derive(Debug, Clone, Copy)]
enum Cost {
    /// A message that is gone into.
    Inside(Kind),
    /// For each of its bytes.
    Bytes(u64),
    /// For each time that it stands there.
    Each(u64),
    Nothing,
}

impl Kind {
    /// The kind of message that a method takes; `None` where it is small, or has no lists.
    pub(super) fn of_method(path: &str) -> Option<Self> {
        match path.rsplit('/').next()? {
            "ModelInfer" | "ModelStreamInfer" => Some(Self::Infer),
            "RunExperts" | "RunExpertsStream" => Some(Self::RunExperts),
            "Decide" | "DecideStream" => Some(Self::Decide),
            _ => None,
        }
    }

    fn cost(self, field: u64) -> Cost {
        match (self, field) {
            (Self::Infer, 5) => Cost::Inside(Self::InferInput),
            (Self::InferInput, 5) => Cost::Inside(Self::Contents),
            (Self::RunExperts, 4 | 5) | (Self::Sample, 2) => Cost::Inside(Self::Shaped),
            (Self::Decide, 2) => Cost::Inside(Self::Sample),
            (Self::InferInput | Self::Shaped, 3) | (Self::Contents, 3 | 5) => Cost::Bytes(INTEGER),
            (Self::Contents, 2 | 4) => Cost::Bytes(SHORT),
            (Self::Contents, 1 | 6 | 7) => Cost::Bytes(AS_WIDE),
            (Self::Contents, 8) => Cost::Each(TEXT),
            _ => Cost::Nothing,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    Key,
    /// The length of a field that costs something, or nothing.
    Length(Cost),
    /// A number that is not looked at.
    Number,
    Skip(u64),
    /// What follows cannot be read; its reader says so.
    Lost,
}

/// One message, on its way.
#[derive(Debug)]
pub(super) struct Unfolding {
    /// The messages that this is inside of, and where each ends; the outermost has no end that matters.
    inside: Vec<(Kind, u64)>,
    at: u64,
    state: State,
    /// A varint that is not whole yet, and its bits so far.
    varint: (u64, u32),
}

impl Unfolding {
    pub(super) fn new(kind: Kind) -> Self {
        Self { inside: vec![(kind, u64::MAX)], at: 0, state: State::Key, varint: (0, 0) }
    }

    /// Reads on; gives the bytes of memory that what was read will cost.
    pub(super) fn pass(&mut self, mut input: &[u8]) -> u64 {
        let mut cost = 0_u64;
        while let Some(byte) = input.first() {
            match &mut self.state {
                State::Lost => return cost,
                State::Skip(left) => {
                    let skipped = (*left).min(input.len() as u64);
                    *left -= skipped;
                    let is_over = *left == 0;
                    self.at += skipped;
                    input = &input[skipped as usize..];
                    if is_over {
                        self.next();
                    }
                }
                _ => {
                    let byte = *byte;
                    input = &input[1..];
                    self.at += 1;
                    let (value, bits) = self.varint;
                    if bits > 63 {
                        self.state = State::Lost;
                        continue;
                    }
                    let value = value | u64::from(byte & 0x7f).checked_shl(bits).unwrap_or(0);
                    if byte & 0x80 != 0 {
                        self.varint = (value, bits + 7);
                        continue;
                    }
                    self.varint = (0, 0);
                    cost = cost.saturating_add(self.number(value));
                }
            }
        }
        cost
    }

    /// A whole number stands here.
    fn number(&mut self, value: u64) -> u64 {
        match self.state {
            State::Key => {
                let kind = self.inside.last().map_or(Kind::Infer, |(kind, _)| *kind);
                let cost = kind.cost(value >> 3);
                let (state, each) = match (value & 7, cost) {
                    (0, Cost::Bytes(_)) => (State::Number, INTEGER),
                    (0, _) => (State::Number, 0),
                    (1, Cost::Bytes(_)) => (State::Skip(8), INTEGER),
                    (1, _) => (State::Skip(8), 0),
                    (5, Cost::Bytes(_)) => (State::Skip(4), SHORT),
                    (5, _) => (State::Skip(4), 0),
                    (2, Cost::Each(each)) => (State::Length(Cost::Nothing), each),
                    (2, cost) => (State::Length(cost), 0),
                    _ => (State::Lost, 0),
                };
                self.state = state;
                each
            }
            State::Length(cost) => {
                self.state = State::Skip(value);
                match cost {
                    Cost::Inside(kind) if self.inside.len() < DEEPEST => {
                        self.inside.push((kind, self.at.saturating_add(value)));
                        self.next();
                        0
                    }
                    Cost::Bytes(each) => {
                        self.skip_nothing(value);
                        value.saturating_mul(each)
                    }
                    _ => {
                        self.skip_nothing(value);
                        0
                    }
                }
            }
            State::Number => {
                self.next();
                0
            }
            State::Skip(_) | State::Lost => 0,
        }
    }

    /// A field without content is over.
    fn skip_nothing(&mut self, length: u64) {
        if length == 0 {
            self.next();
        }
    }

    /// A field is over: the messages that end here are too.
    fn next(&mut self) {
        self.state = State::Key;
        while self.inside.len() > 1
            && let Some((_, end)) = self.inside.last()
            && *end <= self.at
        {
            if *end < self.at {
                self.state = State::Lost;
            }
            self.inside.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use millgate_shared::proto::inference::model_infer_request::InferInputTensor;
    use millgate_shared::proto::inference::{InferTensorContents, ModelInferRequest};
    use millgate_shared::proto::v1;
    use proptest::prelude::*;
    use prost_reflect::prost::Message;

    use super::*;

    fn infer(contents: Vec<InferTensorContents>, raw: Vec<Vec<u8>>) -> ModelInferRequest {
        let input = |contents| InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            contents: Some(contents),
            ..Default::default()
        };
        ModelInferRequest {
            model_name: "m".to_owned(),
            inputs: contents.into_iter().map(input).collect(),
            raw_input_contents: raw.into_iter().map(Into::into).collect(),
            ..Default::default()
        }
    }

    fn cost(kind: Kind, message: &[u8]) -> u64 {
        Unfolding::new(kind).pass(message)
    }

    #[test]
    fn each_kind_of_contents_costs_what_it_unfolds_to() {
        let contents = |change: fn(&mut InferTensorContents)| {
            let mut contents = InferTensorContents::default();
            change(&mut contents);
            cost(Kind::Infer, &infer(vec![contents], vec![vec![0; 1000]]).encode_to_vec())
        };
        assert_eq!(contents(|_| ()), 0);
        assert_eq!(contents(|it| it.int64_contents = vec![1; 1000]), 1000 * INTEGER);
        assert_eq!(contents(|it| it.uint_contents = vec![1; 1000]), 1000 * SHORT);
        assert_eq!(contents(|it| it.fp32_contents = vec![1.0; 1000]), 4000 * AS_WIDE);
        assert_eq!(contents(|it| it.bytes_contents = vec![bytes::Bytes::new(); 1000]), 1000 * TEXT);
        // Not packed: each number has a key of its own.
        let unpacked = [&[0x2a, 0xcb, 0x01, 0x2a, 0xc8, 0x01][..], &[3 << 3, 1].repeat(100)].concat();
        assert_eq!(cost(Kind::Infer, &unpacked), 100 * INTEGER);
        let tensor = v1::Tensor { shape: vec![1; 500], ..Default::default() };
        let run = v1::RunExpertsRequest { tensors: vec![tensor.clone(), tensor], ..Default::default() };
        assert_eq!(cost(Kind::RunExperts, &run.encode_to_vec()), 1000 * INTEGER);
        let part = v1::Part { shape: vec![1; 500], ..Default::default() };
        let sample = v1::Sample { parts: vec![part], ..Default::default() };
        let decide = v1::DecideRequest { sample: Some(sample), ..Default::default() };
        assert_eq!(cost(Kind::Decide, &decide.encode_to_vec()), 500 * INTEGER);
        assert_eq!(Kind::of_method("/inference.GRPCInferenceService/ModelInfer"), Some(Kind::Infer));
        assert_eq!(Kind::of_method("/grpc.health.v1.Health/Check"), None);
    }

    proptest! {
        #[test]
        fn a_cost_is_the_same_however_a_message_is_cut(
            lists in proptest::collection::vec((proptest::collection::vec(any::<i64>(), 0..40), 0_usize..5), 0..6),
            raw in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..3),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let contents = lists.into_iter().map(|(numbers, texts)| InferTensorContents {
                int64_contents: numbers,
                bytes_contents: vec![bytes::Bytes::from_static(b"ab"); texts],
                ..Default::default()
            });
            let message = infer(contents.collect(), raw).encode_to_vec();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(message.len() + 1)).collect();
            at.push(message.len());
            at.sort_unstable();
            let (mut unfolding, mut begin, mut sum) = (Unfolding::new(Kind::Infer), 0, 0);
            for end in at {
                sum += unfolding.pass(&message[begin..end]);
                begin = end;
            }
            prop_assert_eq!(sum, cost(Kind::Infer, &message));
            prop_assert!(!matches!(unfolding.state, State::Lost));
        }

        #[test]
        fn nonsense_is_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            for kind in [Kind::Infer, Kind::RunExperts, Kind::Decide] {
                Unfolding::new(kind).pass(&bytes);
            }
        }
    }
}
