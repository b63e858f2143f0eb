//! The address that counts where each address has a share.

use std::net::{IpAddr, Ipv6Addr};

/// The bits of an IPv6 address that name its network.
const NETWORK_BITS: u32 = 64;

/// The address that counts for a connection: an IPv4 address, or an IPv6 network of 64 bits, since
/// one host can have all of such a network.
pub(crate) fn share_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let network = address.to_bits() >> NETWORK_BITS << NETWORK_BITS;
            Ipv6Addr::from_bits(network).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        for (one, other, is_same) in [
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("2001:db8::1", "2001:db8::ffff:0:0:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            let address = |text: &str| share_of(text.parse().expect("an address"));
            let (a, b) = (address(one), address(other));
            assert_eq!(a == b, is_same, "{one} {other}");
        }
    }
}
