//! Heads and trailers as bytes. Pure: what is read here comes from outside, so every length has a bound.
//!
//! ```text
//! request   path: u16 length, bytes            then the headers
//! response  status: u16                        then the headers
//! trailers                                     the headers
//! header    u8 length, name in lower case; u16 length, value
//! ```
//! Numbers are big-endian. Metadata is ASCII, or base64 under names in `-bin`, as gRPC has it everywhere.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::blocks::{Kind, MOST_BYTES, PREFIX};

/// Most headers in one block.
const MOST_HEADERS: usize = 128;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("a head ends in the middle of {0}")]
    Short(&'static str),
    #[error("a head has more than {MOST_HEADERS} headers")]
    Crowded,
    #[error("a head of {0} bytes: it may have {MOST_BYTES}")]
    Large(usize),
    #[error("a head's {0} is malformed")]
    Malformed(&'static str),
}

/// Head of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestHead {
    pub path: PathAndQuery,
    pub headers: HeaderMap,
}

impl RequestHead {
    /// Encodes the whole block; an error if it would be too large.
    pub fn encode(path: &str, headers: &HeaderMap) -> Result<Bytes, HeadError> {
        encode(Kind::Request, headers, |out| {
            out.put_u16(u16::try_from(path.len()).map_err(|_| HeadError::Large(path.len()))?);
            out.put_slice(path.as_bytes());
            Ok(())
        })
    }

    pub fn decode(mut bytes: &[u8]) -> Result<Self, HeadError> {
        let length = number(&mut bytes, "its path")?;
        let path = take(&mut bytes, length, "its path")?;
        // A fragment would be cut off without a word.
        let is_whole = path.first() == Some(&b'/') && !path.contains(&b'#');
        let path = PathAndQuery::try_from(path).ok().filter(|_| is_whole);
        Ok(Self { path: path.ok_or(HeadError::Malformed("path"))?, headers: decode_headers(bytes)? })
    }
}

/// Head of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseHead {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

impl ResponseHead {
    /// Encodes the whole block; an error if it would be too large.
    pub fn encode(status: StatusCode, headers: &HeaderMap) -> Result<Bytes, HeadError> {
        encode(Kind::Response, headers, |out| {
            out.put_u16(status.as_u16());
            Ok(())
        })
    }

    pub fn decode(mut bytes: &[u8]) -> Result<Self, HeadError> {
        let status = number(&mut bytes, "its status")?;
        let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        Ok(Self { status: status.ok_or(HeadError::Malformed("status"))?, headers: decode_headers(bytes)? })
    }
}

/// Encodes the whole block; an error if it would be too large.
pub fn encode_trailers(headers: &HeaderMap) -> Result<Bytes, HeadError> {
    encode(Kind::Trailers, headers, |_| Ok(()))
}

pub fn decode_trailers(bytes: &[u8]) -> Result<HeaderMap, HeadError> {
    decode_headers(bytes)
}

fn encode(
    kind: Kind,
    headers: &HeaderMap,
    first: impl FnOnce(&mut BytesMut) -> Result<(), HeadError>,
) -> Result<Bytes, HeadError> {
    if headers.len() > MOST_HEADERS {
        return Err(HeadError::Crowded);
    }
    let mut out = BytesMut::with_capacity(256);
    out.put_u8(kind.tag());
    out.put_u32(0);
    first(&mut out)?;
    for (name, value) in headers {
        let (name, value) = (name.as_str(), value.as_bytes());
        out.put_u8(u8::try_from(name.len()).map_err(|_| HeadError::Large(name.len()))?);
        out.put_slice(name.as_bytes());
        out.put_u16(u16::try_from(value.len()).map_err(|_| HeadError::Large(value.len()))?);
        out.put_slice(value);
    }
    let length = out.len() - PREFIX;
    if length > MOST_BYTES {
        return Err(HeadError::Large(length));
    }
    out[1..PREFIX].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(out.freeze())
}

fn decode_headers(mut bytes: &[u8]) -> Result<HeaderMap, HeadError> {
    let mut headers = HeaderMap::new();
    while !bytes.is_empty() {
        if headers.len() == MOST_HEADERS {
            return Err(HeadError::Crowded);
        }
        let length = usize::from(bytes.get_u8());
        let name = HeaderName::from_lowercase(take(&mut bytes, length, "a name")?)
            .map_err(|_| HeadError::Malformed("header name"))?;
        let length = number(&mut bytes, "a value")?;
        let value = HeaderValue::from_bytes(take(&mut bytes, length, "a value")?)
            .map_err(|_| HeadError::Malformed("header value"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn number(bytes: &mut &[u8], what: &'static str) -> Result<usize, HeadError> {
    bytes.try_get_u16().map(usize::from).map_err(|_| HeadError::Short(what))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize, what: &'static str) -> Result<&'a [u8], HeadError> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(HeadError::Short(what))?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers() -> impl Strategy<Value = HeaderMap> {
        let header = ("[a-z][a-z0-9-]{0,20}", proptest::collection::vec(0x20_u8..0x7f, 0..200));
        proptest::collection::vec(header, 0..20).prop_map(|list| {
            let mut headers = HeaderMap::new();
            for (name, value) in list {
                headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
            }
            headers
        })
    }

    #[test]
    fn a_path_is_taken_whole_or_not_at_all() {
        for path in ["", "millgate", "#/millgate", "/millgate#/x", "*"] {
            let head = RequestHead::encode(path, &HeaderMap::new()).unwrap();
            assert_eq!(RequestHead::decode(&head[PREFIX..]), Err(HeadError::Malformed("path")), "{path}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(headers in headers(), path in "/[a-z.]{1,40}/[A-Za-z]{1,20}", status in 100_u16..1000) {
            let head = RequestHead::encode(&path, &headers).unwrap();
            let read = RequestHead::decode(&head[PREFIX..]).unwrap();
            prop_assert_eq!((read.path.as_str(), &read.headers), (path.as_str(), &headers));
            let status = StatusCode::from_u16(status).unwrap();
            let head = ResponseHead::encode(status, &headers).unwrap();
            prop_assert_eq!(ResponseHead::decode(&head[PREFIX..]), Ok(ResponseHead { status, headers: headers.clone() }));
            let block = encode_trailers(&headers).unwrap();
            prop_assert_eq!(decode_trailers(&block[PREFIX..]), Ok(headers));
        }

        #[test]
        fn anything_else_is_an_error_and_no_panic(bytes: Vec<u8>) {
            for headers in [
                RequestHead::decode(&bytes).map(|head| head.headers),
                ResponseHead::decode(&bytes).map(|head| head.headers),
                decode_trailers(&bytes),
            ].into_iter().flatten() {
                prop_assert!(headers.len() <= MOST_HEADERS);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_not_sent() {
        let mut headers = HeaderMap::new();
        headers.insert("large", HeaderValue::from_str(&"x".repeat(MOST_BYTES)).unwrap());
        assert!(matches!(encode_trailers(&headers), Err(HeadError::Large(_))));
        let mut headers = HeaderMap::new();
        for _ in 0..=MOST_HEADERS {
            headers.append("a", HeaderValue::from_static("b"));
        }
        assert_eq!(encode_trailers(&headers), Err(HeadError::Crowded));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (bytes, error) in [
            (&[0][..], HeadError::Short("its path")),
            (&[0, 5, b'/'], HeadError::Short("its path")),
            (&[0, 1, b'a'], HeadError::Malformed("path")),
            (&[0, 1, b'/', 3, b'a'], HeadError::Short("a name")),
            (&[0, 1, b'/', 1, b'A', 0, 0], HeadError::Malformed("header name")),
            (&[0, 1, b'/', 1, b'a', 0], HeadError::Short("a value")),
            (&[0, 1, b'/', 1, b'a', 0, 1, 10], HeadError::Malformed("header value")),
        ] {
            assert_eq!(RequestHead::decode(bytes), Err(error));
        }
    }
}
