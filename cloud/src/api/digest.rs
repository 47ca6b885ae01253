//! One version: a request names the bundle that its caller works with, and another one is refused.

use millgate_shared::bundle::BundleDigest;

use crate::failure::Failure;

/// The digest must be given and be that of the bundle held here.
pub(super) fn check(asked: &[u8], held: BundleDigest) -> Result<(), Failure> {
    let Some(asked) = BundleDigest::from_bytes(asked) else {
        let message = format!("is {} bytes, must be the 32 that ListExperts gives", asked.len());
        return Err(Failure::field("bundle_digest", message));
    };
    if asked != held {
        return Err(Failure::Bundle { asked, held });
    }
    Ok(())
}

/// The digest of a stream: the last one given holds for the messages that give none.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    asked: Vec<u8>,
}

impl Inherited {
    pub(super) fn check(&mut self, asked: &[u8], held: BundleDigest) -> Result<(), Failure> {
        // What is not a digest is refused, not kept.
        if BundleDigest::from_bytes(asked).is_some() {
            self.asked = asked.to_vec();
        }
        check(if asked.is_empty() { &self.asked } else { asked }, held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    #[test]
    fn a_stream_inherits_the_digest_it_began_with() {
        let held = BundleDigest::from_bytes(&[7; 32]).unwrap();
        let mut digest = Inherited::default();
        let mut code = |asked: &[u8]| digest.check(asked, held).map_err(|failure| failure.kind());
        assert_eq!(code(&[]), Err(Kind::Invalid));
        assert_eq!(code(&[7; 32]), Ok(()));
        assert_eq!(code(&[]), Ok(()));
        assert_eq!(code(&[7; 31]), Err(Kind::Invalid));
        assert_eq!(code(&[]), Ok(()));
        assert_eq!(code(&[8; 32]), Err(Kind::Precondition));
        assert_eq!(code(&[]), Err(Kind::Precondition));
    }
}
