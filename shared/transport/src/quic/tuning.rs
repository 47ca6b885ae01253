//! What is asked of QUIC: how long a silence may be, how much may be under way, how losses are noticed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{BbrConfig, CubicConfig};
use quinn::{AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::congestion::LinkConfig;

/// Congestion control of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Control {
    /// Congestion control of [`crate::congestion`].
    #[default]
    Link,
    /// Cubic, QUIC's default, which a comparison is made with.
    Cubic,
    Bbr,
}

/// Settings of one side of a connection. Of both sides' silences the shorter counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuning {
    /// Time after which a silent peer counts as gone. It is short: QUIC's probes back off, and a new connection is
    /// faster than the next probe of an old one.
    pub silence: Duration,
    /// Interval at which a side with nothing to send gives a sign of life; `None` if the other side does.
    pub keepalive: Option<Duration>,
    /// Bytes that a peer may send ahead on one stream: 20 Mbit/s for 400 ms.
    pub stream_window: u32,
    /// Bytes that a peer may send ahead on all streams: a few that nobody reads leave room for the others.
    pub connection_window: u32,
    /// Most bytes that wait to be sent or to be acknowledged.
    pub send_window: u64,
    /// Most streams, and so calls, that a peer may have open at a time.
    pub streams: u32,
    pub control: Control,
}

impl Tuning {
    /// Settings of a device: it keeps the connection alive, and nobody calls it.
    pub fn agent() -> Self {
        Self {
            silence: Duration::from_secs(3),
            keepalive: Some(Duration::from_secs(1)),
            stream_window: 1 << 20,
            connection_window: 4 << 20,
            send_window: 8 << 20,
            streams: 0,
            control: Control::Link,
        }
    }

    /// Settings of a pool. Peers that do not say how long their silences are get ten seconds.
    pub fn pool(streams: u32) -> Self {
        Self { silence: Duration::from_secs(10), keepalive: None, streams, ..Self::agent() }
    }

    /// Settings with buffers of a connection that are no larger than these: bytes that its peer may send ahead, and twice as many
    /// that wait to be sent to it.
    #[must_use]
    pub fn within(self, window: u32) -> Self {
        Self {
            stream_window: self.stream_window.min(window),
            connection_window: self.connection_window.min(window),
            send_window: self.send_window.min(2 * u64::from(window)),
            ..self
        }
    }

    pub(super) fn transport(&self) -> io::Result<TransportConfig> {
        let silence = IdleTimeout::try_from(self.silence)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let mut acks = AckFrequencyConfig::default();
        acks.max_ack_delay(Some(ACK_DELAY));
        let mut mtu = MtuDiscoveryConfig::default();
        mtu.black_hole_cooldown(BLACK_HOLE_PAUSE);
        let mut config = TransportConfig::default();
        config
            .max_idle_timeout(Some(silence))
            .keep_alive_interval(self.keepalive)
            .stream_receive_window(VarInt::from_u32(self.stream_window))
            .receive_window(VarInt::from_u32(self.connection_window))
            .send_window(self.send_window)
            .send_fairness(true)
            .max_concurrent_bidi_streams(VarInt::from_u32(self.streams))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .initial_rtt(FIRST_ROUND_TRIP)
            .ack_frequency_config(Some(acks))
            .mtu_discovery_config(Some(mtu));
        match self.control {
            Control::Link => config.congestion_controller_factory(Arc::new(LinkConfig)),
            Control::Cubic => config.congestion_controller_factory(Arc::new(CubicConfig::default())),
            Control::Bbr => config.congestion_controller_factory(Arc::new(BbrConfig::default())),
        };
        Ok(config)
    }
}

/// Longest time for which a peer may hold an acknowledgement back. Every millisecond of it is added to the time after
/// which a loss at the end of a call is looked into.
const ACK_DELAY: Duration = Duration::from_millis(5);
/// Round trip that is assumed of a connection that has measured none: a first packet that is lost is sent again after
/// three of these.
const FIRST_ROUND_TRIP: Duration = Duration::from_millis(100);
/// Pause after a path seemed to take no large packets any more. Bursts of losses look like that, and such a mistake
/// should not last.
const BLACK_HOLE_PAUSE: Duration = Duration::from_secs(10);
