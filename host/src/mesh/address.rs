//! Addresses at which nodes, registers and etcd are dialled: `HOST:PORT`, with a name or an IP
//! address as the host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest address, in bytes. A register accepts no longer one, and no name needs more.
const BYTES: usize = 256;

const LINK_LOCAL: &str = "a link-local address is another machine on each link";

/// Checks that an address, which the flag `flag` has named, can be dialled.
///
/// # Errors
///
/// The text is no `HOST:PORT`, or nobody can connect to its host.
pub fn check_address(flag: &str, address: &str) -> anyhow::Result<()> {
    match fault(address) {
        None => Ok(()),
        Some(fault) => anyhow::bail!(
            "{flag} {address}: nobody can dial that, since {fault}: write it as HOST:PORT, with \
             the name or the address at which it is reached from other machines"
        ),
    }
}

/// Whether an address leads to the machine that dials it.
pub fn is_loopback(address: &str) -> bool {
    let Some((host, _)) = address.rsplit_once(':') else {
        return false;
    };
    match ip(host) {
        Some(ip) => ip.to_canonical().is_loopback(),
        None => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Whether an address certainly belongs to another machine. A host name is never certain.
pub fn is_elsewhere(address: &str) -> bool {
    let host = address.rsplit_once(':').map(|(host, _)| host);
    host.and_then(ip).is_some() && !is_loopback(address)
}

/// Whether an address can be dialled, as far as its text shows.
pub(super) fn can_be_dialled(address: &str) -> bool {
    fault(address).is_none()
}

fn fault(address: &str) -> Option<&'static str> {
    if address.len() > BYTES {
        return Some("it is too long");
    }
    if address.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Some("it has a space in it");
    }
    if address.contains(['/', '@', '?', '#']) {
        return Some("it is an URL, and not a host and a port alone");
    }
    let Some((host, port)) = address.rsplit_once(':') else {
        return Some("it has no port");
    };
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Some("its port is no number from 1 to 65535");
    }
    match ip(host) {
        Some(ip) => ip_fault(ip.to_canonical()),
        None if host.is_empty() => Some("it has no host"),
        None if host.contains('%') => Some(LINK_LOCAL),
        None if host.contains([':', '[', ']']) => {
            Some("an IPv6 address stands in brackets, as in [2001:db8::7]:7000")
        }
        None => name_fault(host),
    }
}

fn ip(host: &str) -> Option<IpAddr> {
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bracketed {
        Some(host) => host.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

fn ip_fault(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) if ip.octets()[0] == 0 => {
            Some("0.0.0.0 stands for all addresses of a machine")
        }
        IpAddr::V6(ip) if ip.is_unspecified() => Some("[::] stands for all addresses of a machine"),
        IpAddr::V4(ip) if ip.is_multicast() || ip.is_broadcast() => {
            Some("that address is for many machines at once")
        }
        IpAddr::V6(ip) if ip.is_multicast() => Some("that address is for many machines at once"),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some(LINK_LOCAL),
        _ => None,
    }
}

/// The fault of a host name, if it has one. Names are as in DNS, or have underscores, as the names
/// of containers do.
fn name_fault(host: &str) -> Option<&'static str> {
    let labels = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (1..=63).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !labels.split('.').all(is_label) {
        return Some("its host is no name: letters, digits, hyphens and dots");
    }
    // Resolvers read `10.1` and `0` as addresses, which nobody means.
    let last = labels.rsplit('.').next().unwrap_or_default();
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(last) || last.starts_with("0x"))
        .then_some("an IPv4 address has four numbers from 0 to 255")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_dialled() {
        for address in [
            "127.0.0.1:7000",
            "10.0.0.5:1",
            "169.254.1.2:65535",
            "[::1]:7000",
            "[2001:db8::7]:7000",
            "[::ffff:10.0.0.5]:7000",
            "localhost:7000",
            "node1.example:17000",
            "node1.example.:17000",
            "my_node-1:7000",
            "7.example:7000",
            "xn--bcher-kva.example:7000",
        ] {
            assert_eq!(fault(address), None, "{address}");
            check_address("--peer", address).expect(address);
        }
    }

    #[test]
    fn what_nobody_can_dial_is_said() {
        for (address, why) in [
            ("", "no port"),
            ("10.0.0.5", "no port"),
            ("node1", "no port"),
            (":7000", "no host"),
            ("10.0.0.5:", "65535"),
            ("10.0.0.5:0", "65535"),
            ("10.0.0.5:+7", "65535"),
            ("10.0.0.5:65536", "65535"),
            ("10.0.0.5:http", "65535"),
            ("0.0.0.0:7000", "all addresses"),
            ("0.1.2.3:7000", "all addresses"),
            ("[::]:7000", "all addresses"),
            ("[::ffff:0.0.0.0]:7000", "all addresses"),
            ("224.0.0.1:7000", "many machines"),
            ("255.255.255.255:7000", "many machines"),
            ("[ff02::1]:7000", "many machines"),
            ("[::ffff:224.0.0.1]:7000", "many machines"),
            ("[fe80::1]:7000", "link-local"),
            ("[fe80::1%eth0]:7000", "link-local"),
            ("::1:7000", "brackets"),
            ("2001:db8::7", "brackets"),
            ("[::1]7000", "65535"),
            ("[10.0.0.5]:7000", "brackets"),
            ("http://10.0.0.5:7000", "URL"),
            ("10.0.0.5:7000/", "URL"),
            ("me@node1:7000", "URL"),
            ("node 1:7000", "space"),
            ("node1:7000\n", "space"),
            ("-node:7000", "no name"),
            ("node..example:7000", "no name"),
            ("*:7000", "no name"),
            ("bücher.example:7000", "no name"),
            ("10.0.5:7000", "four numbers"),
            ("256.0.0.1:7000", "four numbers"),
            ("0:7000", "four numbers"),
            ("0x7f000001:7000", "four numbers"),
        ] {
            assert!(
                fault(address).is_some_and(|fault| fault.contains(why)),
                "{address}: {:?}",
                fault(address)
            );
        }
        assert!(fault(&format!("{}:7000", "a.".repeat(150))).is_some());
        let error = check_address("--peer", "node1").expect_err("no port");
        assert!(error.to_string().starts_with("--peer node1: "), "{error}");
    }

    #[test]
    fn whose_machine_it_is() {
        for address in [
            "127.0.0.1:1",
            "[::1]:1",
            "localhost:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(is_loopback(address) && !is_elsewhere(address), "{address}");
        }
        assert!(!is_loopback("10.0.0.5:1") && is_elsewhere("10.0.0.5:1"));
        assert!(!is_loopback("node1:1") && !is_elsewhere("node1:1"));
    }
}
