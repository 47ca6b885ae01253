//! Who is at the other end of a connection: certificates, the TLS that both sides speak, and a clock that cannot lie
//! too far.
//!
//! Rooms, lowest first; each uses only rooms of a line above its own:
//!
//! * [`clock`]: the time that certificates are judged by. [`name`]: what a device is called, and how that stands in its
//!   certificate. [`pem`]: certificates and keys read from files, with errors that name the file; they are written by
//!   [`millgate_base::files`]. [`provider`]: the cryptography.
//! * [`certificate`]: what stands in a certificate.
//! * [`held`], [`roots`]: the certificate that is shown and the authorities that are trusted; both can be exchanged while
//!   connections are made. [`secret`]: tokens.
//! * [`tls`]: the two configurations, TLS 1.3 only.
//! * [`dial`]: a connection for a few calls.
//!
//! ```
//! use millgate_identity::DeviceName;
//!
//! let name: DeviceName = "north/press-4".parse()?;
//! assert_eq!(DeviceName::from_urn(&name.urn()), Some(name));
//! # Ok::<(), millgate_identity::name::NameError>(())
//! ```

pub mod certificate;
pub mod clock;
pub mod dial;
pub mod held;
pub mod name;
pub mod pem;
pub mod provider;
pub mod roots;
pub mod secret;
pub mod tls;

pub use certificate::{Certificate, Fingerprint};
pub use clock::Floor;
pub use held::Held;
pub use name::DeviceName;
pub use roots::Roots;
