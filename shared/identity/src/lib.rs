//! Who is at the other end of a connection: certificates, the TLS that both sides speak, and a clock that cannot lie
//! too far.
//!
//! * [`name`]: what a device is called, and how that stands in its certificate. [`secret`]: tokens.
//! * [`pem`], [`certificate`]: reading certificates and keys, with errors that name the file. They are written by
//!   [`millgate_rim::files`].
//! * [`held`], [`roots`]: the certificate that is shown and the authorities that are trusted; both can be exchanged while
//!   connections are made. [`tls`]: the two configurations, TLS 1.3 only.
//! * [`clock`]: the time that certificates are judged by. [`dial`]: a connection for a few calls.

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
