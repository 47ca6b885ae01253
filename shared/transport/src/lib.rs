//! How gRPC gets from one machine to another: the same services and the same generated clients over every transport.
//!
//! A client is a tower service of `http::Request<tonic::body::Body>`, a server takes any such service.
//!
//! Rooms, lowest first; each uses only rooms of a line above its own:
//!
//! * [`congestion`]: how many bytes may be under way on a line. [`tcp`]: HTTP/2's socket, set for a bad line; through a proxy
//!   where there is one. [`timeout`]: how long a caller waits, as gRPC writes it.
//! * [`quic`]: gRPC messages over bare QUIC streams.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use millgate_transport::quic::{Channel, Endpoint, Tuning};
//!
//! /// The channel goes wherever tonic's own would: `SomeServiceClient::new(channel)`.
//! async fn dial(tls: Arc<rustls::ClientConfig>) -> Result<Channel, Box<dyn std::error::Error>> {
//!     let endpoint = Endpoint::client(tls, &Tuning::agent())?;
//!     Ok(endpoint.connect("192.0.2.7:7443".parse()?, "pool.example").await?)
//! }
//! ```

pub mod congestion;
pub mod quic;
pub mod tcp;
pub mod timeout;
