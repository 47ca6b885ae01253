//! The header `grpc-timeout`, as the specification of gRPC over HTTP/2 has it.

use std::time::Duration;

/// Name of the header that says how long a caller waits.
pub const HEADER: &str = "grpc-timeout";

/// Reads a timeout as gRPC over HTTP/2 writes it, up to eight digits and a unit; `None` if the text is anything else.
pub fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_specification_says() {
        for (text, timeout) in [
            ("3H", Some(Duration::from_secs(10_800))),
            ("2M", Some(Duration::from_secs(120))),
            ("42S", Some(Duration::from_secs(42))),
            ("13m", Some(Duration::from_millis(13))),
            ("2u", Some(Duration::from_micros(2))),
            ("82n", Some(Duration::from_nanos(82))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("100000000m", None),
            ("82f", None),
            ("-1m", None),
            ("m", None),
            ("", None),
            ("1é", None),
        ] {
            assert_eq!(parse(text), timeout, "{text}");
        }
    }
}
