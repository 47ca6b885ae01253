//! Whom a call is for: what compute, places and budgets are counted by. Pure.
//!
//! A principal is a tenant and somebody of it. Whoever shows a certificate or a token is known by that, programs on this
//! machine are one principal together, and everybody else is known by the address.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Rank of a request that asks for none, on the scale from 0, which goes first, to 255.
pub const USUAL_PRIORITY: u8 = 128;
/// A tenant's share of the compute where nothing is said of it.
pub const USUAL_SHARE: u32 = 1;
/// Bits of an IPv6 address that one network of a customer has: whoever holds one of its addresses holds them all.
const NETWORK_BITS: u32 = 64;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tenant {
    /// Programs on this machine that show no credentials.
    Local,
    /// Those from other machines who show no credentials.
    Unnamed,
    Named(Arc<str>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Name {
    Local,
    Address(IpAddr),
    Device(Arc<str>),
    Token(Arc<str>),
}

/// One who calls. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Principal {
    tenant: Tenant,
    name: Name,
}

impl Principal {
    /// All programs on this machine that show no credentials.
    pub fn local() -> Self {
        Self { tenant: Tenant::Local, name: Name::Local }
    }

    /// Whoever comes from an address without credentials.
    pub fn at(address: IpAddr) -> Self {
        let network = match address.to_canonical() {
            IpAddr::V6(address) => {
                let host = u128::MAX >> NETWORK_BITS;
                IpAddr::V6((u128::from(address) & !host).into())
            }
            address => address,
        };
        Self { tenant: Tenant::Unnamed, name: Name::Address(network) }
    }

    pub fn device(tenant: &str, device: &str) -> Self {
        Self { tenant: Tenant::Named(tenant.into()), name: Name::Device(device.into()) }
    }

    /// Whoever has an API token, by the token's name.
    pub fn token(tenant: &str, token: &str) -> Self {
        Self { tenant: Tenant::Named(tenant.into()), name: Name::Token(token.into()) }
    }

    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenant = match &self.tenant {
            Tenant::Named(tenant) => tenant,
            Tenant::Local | Tenant::Unnamed => "-",
        };
        match &self.name {
            Name::Local => f.write_str("this machine"),
            Name::Address(address) => write!(f, "address {address}"),
            Name::Device(device) => write!(f, "device {tenant}/{device}"),
            Name::Token(token) => write!(f, "API token `{token}` of tenant `{tenant}`"),
        }
    }
}

/// What a principal may have of the compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub principal: Principal,
    /// Its tenant's share, relative to those of others.
    pub share: u32,
    /// The best rank that it may ask for; 0 is served first.
    pub priority: u8,
}

impl Standing {
    /// The usual share and rank.
    pub fn usual(principal: Principal) -> Self {
        Self { principal, share: USUAL_SHARE, priority: USUAL_PRIORITY }
    }

    /// A program on this machine, which may do anything.
    pub fn local() -> Self {
        Self { priority: 0, ..Self::usual(Principal::local()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Principal {
        Principal::at(address.parse().unwrap())
    }

    #[test]
    fn an_address_is_a_principal_and_so_is_a_network_of_one_customer() {
        assert_eq!(at("10.0.0.7"), at("::ffff:10.0.0.7"));
        assert_ne!(at("10.0.0.7"), at("10.0.0.8"));
        assert_eq!(at("2001:db8:1:2::1"), at("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        assert_eq!(at("2001:db8:1:2::1").to_string(), "address 2001:db8:1:2::");
        assert_eq!(at("10.0.0.7").tenant(), at("10.0.0.8").tenant());
    }

    #[test]
    fn a_device_and_a_token_of_one_name_are_two_and_belong_to_one_tenant() {
        let (device, token) = (Principal::device("acme", "cam-1"), Principal::token("acme", "cam-1"));
        assert_ne!(device, token);
        assert_eq!(device.tenant(), token.tenant());
        assert_eq!(device, Principal::device("acme", "cam-1"));
        assert_ne!(device.tenant(), Principal::device("beta", "cam-1").tenant());
        assert_ne!(Principal::local().tenant(), at("127.0.0.1").tenant());
        assert_eq!(device.to_string(), "device acme/cam-1");
    }
}
