//! gzip and deflate (zlib's format, as HTTP has it) of bodies, both ways.

use std::io::{Read, Write};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};

use crate::failure::Failure;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Gzip,
    Deflate,
}

impl Encoding {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            _ => None,
        }
    }

    pub(super) fn header(self) -> (HeaderName, HeaderValue) {
        let name = match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        };
        (header::CONTENT_ENCODING, HeaderValue::from_static(name))
    }
}

/// What a request's body is in.
pub(super) fn of_request(headers: &HeaderMap) -> Result<Option<Encoding>, Failure> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(None) };
    let name = String::from_utf8_lossy(value.as_bytes()).trim().to_ascii_lowercase();
    match Encoding::from_name(&name) {
        None if name.is_empty() || name == "identity" => Ok(None),
        None => Err(Failure::field("Content-Encoding", format!("`{name}` is neither gzip nor deflate"))),
        encoding => Ok(encoding),
    }
}

/// What the client likes best of what we have.
pub(super) fn of_answer(headers: &HeaderMap) -> Option<Encoding> {
    let mut best = None;
    for value in headers.get_all(header::ACCEPT_ENCODING) {
        for item in value.to_str().unwrap_or_default().split(',') {
            let (name, weight) = item.split_once(';').unwrap_or((item, "q=1"));
            let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse().ok());
            let weight: f32 = weight.unwrap_or(0.0);
            let Some(encoding) = Encoding::from_name(&name.trim().to_ascii_lowercase()) else { continue };
            if weight > best.map_or(0.0, |(_, best)| best) {
                best = Some((encoding, weight));
            }
        }
    }
    best.map(|(encoding, _)| encoding)
}

/// Bytes that are decompressed at once.
const STEP: usize = 256 << 10;

/// The whole content, if it has at most `most` bytes. `make_room` is asked for each length before it is reached.
pub(super) fn unpack(
    encoding: Encoding,
    packed: &[u8],
    most: usize,
    mut make_room: impl FnMut(usize) -> Result<(), Failure>,
) -> Result<Bytes, Failure> {
    let broken = |error: String| Failure::field("body", format!("cannot be decompressed: {error}"));
    let mut content = Vec::new();
    let mut fill = |decoder: &mut dyn Read| loop {
        if content.len() > most {
            return Err(Failure::TooLarge { what: "the decompressed body", most });
        }
        make_room(content.len() + STEP)?;
        let read = decoder.take(STEP as u64).read_to_end(&mut content);
        if read.map_err(|error| broken(error.to_string()))? < STEP {
            return Ok(());
        }
    };
    let is_whole = match encoding {
        Encoding::Gzip => {
            fill(&mut MultiGzDecoder::new(packed))?;
            true
        }
        Encoding::Deflate => {
            let mut decoder = ZlibDecoder::new(packed);
            fill(&mut decoder)?;
            decoder.into_inner().is_empty()
        }
    };
    match is_whole {
        true if content.len() > most => Err(Failure::TooLarge { what: "the decompressed body", most }),
        true => Ok(content.into()),
        false => Err(broken("something stands after its end".to_owned())),
    }
}

/// Compresses an answer at the fastest level: tensors seldom shrink much.
pub(super) fn pack(encoding: Encoding, parts: &[Bytes]) -> std::io::Result<Bytes> {
    fn write(mut encoder: impl Write, parts: &[Bytes]) -> std::io::Result<()> {
        parts.iter().try_for_each(|part| encoder.write_all(part))
    }
    let mut packed = Vec::new();
    match encoding {
        Encoding::Gzip => {
            let mut encoder = GzEncoder::new(&mut packed, Compression::fast());
            write(&mut encoder, parts)?;
            encoder.finish()?;
        }
        Encoding::Deflate => {
            let mut encoder = ZlibEncoder::new(&mut packed, Compression::fast());
            write(&mut encoder, parts)?;
            encoder.finish()?;
        }
    }
    Ok(packed.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_and_a_bomb_does_not() {
        let parts = [Bytes::from_static(b"head"), Bytes::from(vec![0; 1 << 20])];
        for encoding in [Encoding::Gzip, Encoding::Deflate] {
            let packed = pack(encoding, &parts).unwrap();
            let whole = unpack(encoding, &packed, (1 << 20) + 4, |_| Ok(())).unwrap();
            assert!(whole.len() == (1 << 20) + 4 && whole.starts_with(b"head"));
            let bomb = unpack(encoding, &packed, 1 << 20, |_| Ok(())).unwrap_err();
            assert!(matches!(bomb, Failure::TooLarge { .. }), "{bomb}");
            for broken in [&packed[..packed.len() - 1], b"", &[&packed[..], b"more"].concat(), &packed[1..]] {
                let unpacked = unpack(encoding, broken, 1 << 21, |_| Ok(()));
                assert!(matches!(unpacked, Err(Failure::Field(_))), "{encoding:?}");
            }
            // Room is asked for before it is taken.
            let mut asked = Vec::new();
            let full = unpack(encoding, &packed, 1 << 21, |length| {
                asked.push(length);
                if length > 2 * STEP { Err(Failure::Stopped) } else { Ok(()) }
            });
            assert!(matches!(full, Err(Failure::Stopped)));
            assert_eq!(asked, [STEP, 2 * STEP, 3 * STEP]);
        }
    }

    #[test]
    fn the_client_chooses() {
        let asked = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(text));
            of_answer(&headers)
        };
        for (text, expected) in [
            ("gzip, deflate", Some(Encoding::Gzip)),
            ("gzip;q=0.5, deflate;q=0.8", Some(Encoding::Deflate)),
            ("gzip;q=0, br", None),
            ("identity", None),
            ("", None),
            ("deflate;q=x", None),
        ] {
            assert_eq!(asked(text), expected, "{text}");
        }
        assert_eq!(of_answer(&HeaderMap::new()), None);
    }
}
