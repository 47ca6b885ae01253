//! One version: a request names the bundle that its caller works with, and is answered by that one or not at all.

use millgate_shared::bundle::BundleDigest;

use crate::failure::Failure;

/// The digest, which must be given.
pub(super) fn read(asked: &[u8]) -> Result<BundleDigest, Failure> {
    BundleDigest::from_bytes(asked).ok_or_else(|| {
        let message = format!("is {} bytes, must be the 32 that ListExperts gives", asked.len());
        Failure::field("bundle_digest", message)
    })
}

/// The digest of a stream: the last one given holds for the messages that give none.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    asked: Vec<u8>,
}

impl Inherited {
    pub(super) fn read(&mut self, asked: &[u8]) -> Result<BundleDigest, Failure> {
        // What is not a digest is refused, not kept.
        if BundleDigest::from_bytes(asked).is_some() {
            self.asked = asked.to_vec();
        }
        read(if asked.is_empty() { &self.asked } else { asked })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    #[test]
    fn a_stream_inherits_the_digest_it_began_with() {
        let digest = |byte: u8| BundleDigest::from_bytes(&[byte; 32]).unwrap();
        let mut inherited = Inherited::default();
        let mut read = |asked: &[u8]| inherited.read(asked).map_err(|failure| failure.kind());
        assert_eq!(read(&[]), Err(Kind::Invalid));
        assert_eq!(read(&[7; 32]), Ok(digest(7)));
        assert_eq!(read(&[]), Ok(digest(7)));
        assert_eq!(read(&[7; 31]), Err(Kind::Invalid));
        assert_eq!(read(&[]), Ok(digest(7)));
        assert_eq!(read(&[8; 32]), Ok(digest(8)));
        assert_eq!(read(&[]), Ok(digest(8)));
    }
}
