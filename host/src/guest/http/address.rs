//! Name resolution for requests: it tells addresses of the internet from those of this machine and
//! its networks. Connections use exactly the checked addresses, without a second lookup.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::sync::LazyLock;

use tokio::sync::Semaphore;
use wasmtime_wasi_http::{Error, Result};

use super::error::internal_error;
use crate::limits::HTTP_LOOKUPS;
use crate::manifest::{AllowedAddresses, RequestTarget};

/// The permits for lookups. A lookup that hangs keeps its thread and its permit, even if nobody
/// waits for it any more.
static LOOKUPS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(HTTP_LOOKUPS));

/// The addresses that a request for the target may connect to; for `AllowedAddresses::Public` at
/// least one. The lookup holds a clone of `place` until it ends, even if nobody waits for it any
/// more.
pub(super) async fn resolve<P: Clone + Send + 'static>(
    target: &RequestTarget,
    reach: AllowedAddresses,
    place: &P,
) -> Result<Vec<SocketAddr>> {
    if let Ok(address) = target.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, target.port)]);
    }
    let permit = LOOKUPS.acquire().await;
    let (host, port) = (target.host.clone(), target.port);
    let place = place.clone();
    let looked_up = tokio::task::spawn_blocking(move || {
        let _places = (permit, place);
        (host.as_str(), port).to_socket_addrs()
    });
    let no_address = |why: String| Error::DnsError {
        rcode: Some(why),
        info_code: None,
    };
    let found: Vec<_> = match looked_up.await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => return Err(no_address(error.to_string())),
        Err(error) => return Err(no_address(error.to_string())),
    };
    if reach == AllowedAddresses::Anywhere {
        return Ok(found);
    }
    let public: Vec<_> = found.iter().filter(|found| is_public(found.ip())).collect();
    match (public.is_empty(), found.first()) {
        (true, None) => Err(no_address("the name has no address".to_owned())),
        (true, Some(private)) => Err(internal_error(format!(
            "{target} leads to {}, an address of this machine or its networks: if that is meant, \
             write \"{target}\" under http.allow_private",
            private.ip()
        ))),
        (false, _) => Ok(public.into_iter().copied().collect()),
    }
}

/// Whether `address` is an address of the internet, according to the registries of IANA.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        // This network, private, shared (RFC 6598), loopback, link-local.
        [0 | 10 | 127, ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            // Protocols, documentation, 6to4's relays, benchmarks.
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
            // Multicast, reserved, broadcast.
            | [224..=255, ..]
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| {
        let bits = (u32::from(high) << 16) | u32::from(low);
        is_public_v4(Ipv4Addr::from_bits(bits))
    };
    match [a, b, c, d, e, f] {
        // An IPv4 address in another dress: mapped, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => v4(g, h),
        [0x2002, high, low, ..] => v4(high, low),
        // Teredo, benchmarks and others of 2001::/23, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // What is global has 2000::/3: not ::1, fc00::, fe80::, ff00::.
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lookup_waits_for_those_that_hang() {
        let permits = u32::try_from(HTTP_LOOKUPS).expect("few");
        let hanging = LOOKUPS
            .acquire_many(permits)
            .await
            .expect("it is never closed");
        let target = RequestTarget {
            is_https: false,
            host: "localhost".to_owned(),
            port: 80,
        };
        let mut found = std::pin::pin!(resolve(&target, AllowedAddresses::Anywhere, &()));
        assert!(futures_util::poll!(&mut found).is_pending());
        let waiting = LOOKUPS.try_acquire().is_err();
        drop(hanging);
        let found = found.await.expect("localhost has an address");
        assert!(waiting && found.iter().all(|found| found.ip().is_loopback()));
    }

    #[test]
    fn addresses_of_the_internet_are_told_from_the_others() {
        for (address, public) in [
            ("1.1.1.1", true),
            ("93.184.215.14", true),
            ("172.15.0.1", true),
            ("172.32.0.1", true),
            ("100.63.0.1", true),
            ("100.128.0.1", true),
            ("192.0.1.1", true),
            ("198.20.0.1", true),
            ("223.255.255.255", true),
            ("0.0.0.0", false),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("127.255.255.254", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.0.0.1", false),
            ("192.0.2.1", false),
            ("192.168.1.1", false),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("2606:4700::1111", true),
            ("2001:4860:4860::8888", true),
            ("64:ff9b::1.1.1.1", true),
            ("2002:101:101::1", true),
            ("::", false),
            ("::1", false),
            ("::127.0.0.1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("64:ff9b::10.0.0.1", false),
            ("64:ff9b:1::1", false),
            ("2002:a00:1::1", false),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("fc00::1", false),
            ("fd12:3456::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            let address: IpAddr = address.parse().expect(address);
            assert_eq!(is_public(address), public, "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_here_is_refused_unless_that_is_meant() {
        let target = RequestTarget {
            is_https: false,
            host: "localhost".to_owned(),
            port: 80,
        };
        let error = resolve(&target, AllowedAddresses::Public, &())
            .await
            .expect_err("loopback");
        assert!(error.to_string().contains("http.allow_private"), "{error}");
        let found = resolve(&target, AllowedAddresses::Anywhere, &())
            .await
            .expect("loopback");
        assert!(found.iter().all(|found| found.ip().is_loopback()));
    }
}
