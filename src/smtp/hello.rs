//! What EHLO brings to light.

use lettre::transport::smtp::authentication::Mechanism;
use smtp_proto::{AUTH_LOGIN, AUTH_PLAIN, EXT_PIPELINING, EXT_START_TLS, EhloResponse};

/// What the relay says that it can do.
#[derive(Clone, Copy, Default)]
pub(super) struct Capabilities {
    pub(super) starttls: bool,
    pub(super) pipelining: bool,
    pub(super) auth: Option<Mechanism>,
}

impl Capabilities {
    /// Reads the reply to EHLO.
    pub(super) fn read(reply: &[u8]) -> Capabilities {
        let Ok(hello) = EhloResponse::parse(&mut reply.iter()) else {
            return Capabilities::default();
        };
        let mechanism = |bit, mechanism| (hello.auth() & bit != 0).then_some(mechanism);
        Capabilities {
            starttls: hello.has_capability(EXT_START_TLS),
            pipelining: hello.has_capability(EXT_PIPELINING),
            auth: mechanism(AUTH_PLAIN, Mechanism::Plain)
                .or_else(|| mechanism(AUTH_LOGIN, Mechanism::Login)),
        }
    }
}
