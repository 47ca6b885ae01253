//! Execution providers: what ONNX Runtime computes with. Which ones are asked for, and what happens if the library
//! lacks one. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One of them, on a device where there may be several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Provider {
    Cpu,
    Cuda(u32),
    TensorRt(u32),
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(device) => write!(f, "cuda:{device}"),
            Self::TensorRt(device) => write!(f, "tensorrt:{device}"),
        }
    }
}

impl FromStr for Provider {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("`{text}` is not cpu, cuda, cuda:<device>, tensorrt or tensorrt:<device>");
        let (name, device) = match text.split_once(':') {
            None => (text, None),
            // A device id goes through the library as a signed 32-bit number.
            Some((name, device)) => match device.parse::<u32>() {
                Ok(device) if i32::try_from(device).is_ok() => (name, Some(device)),
                _ => return Err(unknown()),
            },
        };
        match (name, device) {
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", device) => Ok(Self::Cuda(device.unwrap_or(0))),
            ("tensorrt", device) => Ok(Self::TensorRt(device.unwrap_or(0))),
            _ => Err(unknown()),
        }
    }
}

impl From<Provider> for String {
    fn from(provider: Provider) -> Self {
        provider.to_string()
    }
}

impl TryFrom<String> for Provider {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A list as it may be configured: not empty, nothing twice, nothing after the CPU, which takes whatever is left.
pub(super) fn check(wanted: &[Provider]) -> Result<(), String> {
    for (at, provider) in wanted.iter().enumerate() {
        if wanted[..at].contains(provider) {
            return Err(format!("`{provider}` stands twice"));
        }
        if wanted[..at].contains(&Provider::Cpu) {
            return Err(format!("`{provider}` after `cpu` is never asked"));
        }
    }
    if wanted.is_empty() { Err("must name at least one".to_owned()) } else { Ok(()) }
}

/// What a session is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selection {
    /// Providers to register beyond the CPU, in this order.
    pub(super) register: Vec<Provider>,
    /// Asked for and not there; to be passed over with a warning.
    pub(super) missing: Vec<Provider>,
    /// The CPU may take what the others leave. If not, a model that needs it is refused.
    pub(super) cpu: bool,
}

/// Selects from the providers that are wanted, in their order, those that the library has. One that it lacks is an error,
/// unless the CPU stands after it, or `may_lack`.
pub(super) fn select(
    wanted: &[Provider],
    may_lack: bool,
    has: impl Fn(Provider) -> bool,
) -> Result<Selection, String> {
    let cpu = wanted.contains(&Provider::Cpu);
    let (register, missing): (Vec<_>, Vec<_>) = wanted
        .iter()
        .copied()
        .filter(|provider| *provider != Provider::Cpu)
        .partition(|provider| has(*provider));
    match missing.first() {
        Some(provider) if !cpu && !may_lack => Err(lacking(*provider, "the library was built without it")),
        _ => Ok(Selection { cpu: cpu || register.is_empty(), register, missing }),
    }
}

pub(super) fn lacking(provider: Provider, why: &str) -> String {
    format!(
        "execution provider `{provider}`: {why}; `cpu` after it in the list would allow to go on without it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<Provider> {
        text.split_whitespace().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn names_carry_a_device() {
        assert_eq!(list("tensorrt cuda:1 cpu"), [Provider::TensorRt(0), Provider::Cuda(1), Provider::Cpu]);
        assert_eq!(list("cuda").first().map(ToString::to_string).unwrap(), "cuda:0");
        for name in ["gpu", "cpu:1", "cuda:", "cuda:x", "cuda:-1", "cuda:4294967295", "CUDA", ""] {
            assert!(name.parse::<Provider>().unwrap_err().contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn lists_are_sensible() {
        check(&list("tensorrt cuda cuda:1 cpu")).unwrap();
        check(&list("cuda")).unwrap();
        assert!(
            check(&[]).is_err() && check(&list("cuda cuda:0")).is_err() && check(&list("cpu cuda")).is_err()
        );
    }

    #[test]
    fn a_missing_one_is_an_error_unless_the_cpu_stands_after_it() {
        let cuda_only = |provider: Provider| matches!(provider, Provider::Cuda(_));
        let wanted = list("tensorrt cuda cpu");
        let selection = select(&wanted, false, cuda_only).unwrap();
        assert_eq!((selection.register, selection.missing), (list("cuda"), list("tensorrt")));
        assert!(selection.cpu);
        let selection = select(&list("tensorrt cuda"), false, |_| true).unwrap();
        assert_eq!(selection.register, list("tensorrt cuda"));
        assert!(!selection.cpu, "without `cpu` in the list nothing falls back to it");
        let error = select(&list("tensorrt cuda"), false, cuda_only).unwrap_err();
        assert!(error.contains("`tensorrt:0`") && error.contains("built without"), "{error}");
        let selection = select(&list("cpu"), false, |_| false).unwrap();
        assert!(selection.register.is_empty() && selection.missing.is_empty() && selection.cpu);
    }
}
