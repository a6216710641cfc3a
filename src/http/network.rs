//! Where a request came from, as far as the policy keeps it.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::{HeaderMap, header, request::Parts};
use ipnet::IpNet;

use super::App;
use super::listen::Peer;
use crate::domain::consent::{Network, USER_AGENT};

/// The network facts of a request that may be kept.
pub struct From(pub Network);

impl FromRequestParts<Arc<App>> for From {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        let settings = &app.flows.settings;
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0.ip());
        let ip = peer.and_then(|peer| client(peer, &parts.headers, &app.trusted_proxies));
        let agent = parts.headers.get(header::USER_AGENT);
        let agent = agent.and_then(|agent| agent.to_str().ok());
        let agent = agent.map(|agent| &agent[..agent.floor_char_boundary(USER_AGENT)]);
        Ok(Self(Network {
            ip: ip.and_then(|ip| settings.keep_ip.ip(ip)),
            user_agent: agent.and_then(|agent| settings.keep_user_agent.user_agent(agent)),
        }))
    }
}

/// Goes back through `X-Forwarded-For`, from its right end, for as long as a trusted proxy wrote what stands there:
/// everything left of that is what the client says of itself.
///
/// Nothing where a trusted proxy does not say who asked it: its own address is not the person's.
fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|net| net.contains(&ip.to_canonical()));
    let values = headers.get_all("x-forwarded-for").iter().rev();
    let mut hops = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    let mut ip = Some(peer);
    while ip.is_some_and(is_trusted) {
        ip = hops.next().and_then(address);
    }
    ip
}

/// Reads an address, which some proxies write with its port.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let hop = str::from_utf8(hop).ok()?.trim();
    let alone = hop.parse().ok();
    alone.or_else(|| hop.parse().ok().map(|socket: SocketAddr| socket.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_trusted_proxy_wrote_is_believed() {
        let trusted: Vec<IpNet> = vec![
            "127.0.0.0/8".parse().unwrap(),
            "10.0.0.0/8".parse().unwrap(),
        ];
        let seen = |peer: &str, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append("x-forwarded-for", value.parse().unwrap());
            }
            let client = client(peer.parse().unwrap(), &headers, &trusted);
            client.map_or("none".to_owned(), |ip| ip.to_string())
        };
        assert_eq!(seen("127.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(
            seen("127.0.0.1", &["6.6.6.6, 198.51.100.7, 10.1.1.1"]),
            "198.51.100.7"
        );
        assert_eq!(
            seen("127.0.0.1", &["6.6.6.6", "198.51.100.7"]),
            "198.51.100.7"
        );
        assert_eq!(seen("::ffff:127.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(
            seen("203.0.113.9", &["198.51.100.7"]),
            "203.0.113.9",
            "from nobody we trust"
        );
        assert_eq!(
            seen("127.0.0.1", &["[2001:db8::1]:443, 10.1.1.1:80"]),
            "2001:db8::1"
        );
        assert_eq!(seen("127.0.0.1", &["198.51.100.7, unknown"]), "none");
        assert_eq!(seen("127.0.0.1", &["198.51.100.7,"]), "none");
        assert_eq!(seen("127.0.0.1", &["10.1.1.1"]), "none");
        assert_eq!(seen("127.0.0.1", &[]), "none");
    }
}
