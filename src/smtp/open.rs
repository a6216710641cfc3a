//! Opens a session: connect, encrypt, greet, log in.

use std::{future::Future, net::SocketAddr, time::Duration};

use lettre::transport::smtp::{
    authentication::Credentials, client::AsyncSmtpConnection, commands::Auth, extension::ClientId,
};
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::{
    Cause, Phase, Reply, Timeouts, Tls,
    hello::Capabilities,
    session::{Fault, Session, positive},
    wire::Wire,
};

/// Where to connect, with everything that can be prepared.
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) name: ServerName<'static>,
    pub(super) tls: Tls,
    pub(super) connector: TlsConnector,
    pub(super) credentials: Option<(String, SecretString)>,
    pub(super) hello: ClientId,
    pub(super) timeouts: Timeouts,
}

impl Session {
    /// Connects, greets, encrypts and logs in, as far as the target asks for it.
    pub(super) async fn open(target: &Target) -> Result<Session, Fault> {
        let limit = target.timeouts.hello;
        let mut wire = Wire::new(connect(target).await?);
        if target.tls == Tls::Implicit {
            wire = within(
                limit,
                Phase::Tls,
                wire.secure(&target.connector, target.name.clone()),
            )
            .await?;
        }
        positive(
            Phase::Greeting,
            within(target.timeouts.greeting, Phase::Greeting, wire.hear()).await?,
        )?;
        if target.tls == Tls::Starttls {
            wire = starttls(wire, target).await?;
        }
        // lettre takes the last reply heard, to the connection or to STARTTLS, for its greeting, and says EHLO
        let heard = wire.heard();
        let hello = AsyncSmtpConnection::connect_with_transport(Box::new(wire), &target.hello);
        let connection = match timeout(limit, hello).await {
            Ok(hello) => hello.map_err(|error| Fault {
                phase: Phase::Hello,
                cause: Cause::from(&error),
            })?,
            // lettre answers a refusal with QUIT and waits: the refusal is what counts
            Err(_) => {
                let refusal = heard.reply().filter(|reply| reply.class() > 3);
                return Err(Fault {
                    phase: Phase::Hello,
                    cause: refusal.map_or(Cause::Timeout, Cause::Reply),
                });
            }
        };
        let capabilities = Capabilities::read(&heard);
        let mut session = Session {
            connection,
            capabilities,
            timeouts: target.timeouts,
            begun: 0,
        };
        if let Some((username, password)) = &target.credentials {
            session
                .log_in(Credentials::new(
                    username.clone(),
                    password.expose_secret().to_owned(),
                ))
                .await?;
        }
        Ok(session)
    }

    /// Logs in step by step; lettre's own `auth` waits for a reply to QUIT after a refusal.
    async fn log_in(&mut self, credentials: Credentials) -> Result<(), Fault> {
        let fault = |cause| Fault {
            phase: Phase::Auth,
            cause,
        };
        let mechanism = self.capabilities.auth.ok_or(fault(Cause::NotOffered))?;
        let first =
            Auth::new(mechanism, credentials.clone(), None).map_err(|e| fault(Cause::from(&e)))?;
        let mut response = self
            .response(Phase::Auth, self.timeouts.hello, first)
            .await?;
        // LOGIN asks for the name, then for the password
        for _ in 0..2 {
            if !response.has_code(334) {
                break;
            }
            let next = Auth::new_from_response(mechanism, credentials.clone(), &response);
            let next = next.map_err(|e| fault(Cause::from(&e)))?;
            response = self
                .response(Phase::Auth, self.timeouts.hello, next)
                .await?;
        }
        positive(Phase::Auth, Reply::from(&response)).map(drop)
    }
}

/// Asks for encryption and shakes hands. What the relay offers in clear counts for nothing afterwards.
async fn starttls(mut wire: Wire, target: &Target) -> Result<Wire, Fault> {
    let limit = target.timeouts.hello;
    let hello = format!("EHLO {}\r\n", target.hello);
    positive(
        Phase::Hello,
        within(limit, Phase::Hello, wire.ask(&hello)).await?,
    )?;
    if !Capabilities::read(&wire.heard()).starttls {
        return Err(Fault {
            phase: Phase::Tls,
            cause: Cause::NotOffered,
        });
    }
    positive(
        Phase::Tls,
        within(limit, Phase::Tls, wire.ask("STARTTLS\r\n")).await?,
    )?;
    within(
        limit,
        Phase::Tls,
        wire.secure(&target.connector, target.name.clone()),
    )
    .await
}

/// Tries the addresses of the relay in turn; each gets its share of the time that is left.
async fn connect(target: &Target) -> Result<TcpStream, Fault> {
    let end = Instant::now() + target.timeouts.connect;
    let nowhere = Fault {
        phase: Phase::Connect,
        cause: Cause::NoAddress,
    };
    let lookup = timeout(
        target.timeouts.connect,
        lookup_host((target.host.as_str(), target.port)),
    );
    let addresses: Vec<SocketAddr> = match lookup.await {
        Ok(addresses) => addresses.map_err(|_| nowhere)?.collect(),
        Err(_) => {
            return Err(Fault {
                phase: Phase::Connect,
                cause: Cause::Timeout,
            });
        }
    };
    let mut fault = nowhere;
    for (i, address) in addresses.iter().enumerate() {
        let share = (end - Instant::now()) / (addresses.len() - i) as u32;
        match within(share, Phase::Connect, TcpStream::connect(address)).await {
            Ok(stream) => {
                // without this each mail waits 44 ms for a delayed acknowledgement
                stream.set_nodelay(true).map_err(|error| Fault {
                    phase: Phase::Connect,
                    cause: Cause::from(&error),
                })?;
                return Ok(stream);
            }
            Err(failed) => fault = failed,
        }
    }
    Err(fault)
}

async fn within<T>(
    limit: Duration,
    phase: Phase,
    step: impl Future<Output = std::io::Result<T>>,
) -> Result<T, Fault> {
    match timeout(limit, step).await {
        Ok(result) => result.map_err(|error| Fault {
            phase,
            cause: Cause::from(&error),
        }),
        Err(_) => Err(Fault {
            phase,
            cause: Cause::Timeout,
        }),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::{super::tls, *};

    #[tokio::test]
    async fn small_writes_are_not_held_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
            name: ServerName::try_from("127.0.0.1").unwrap(),
            tls: Tls::None,
            connector: tls::connector(None).unwrap(),
            credentials: None,
            hello: ClientId::Domain("confirmd.example".to_owned()),
            timeouts: Timeouts::default(),
        };
        let stream = connect(&target).await.map_err(|fault| fault.cause).unwrap();
        assert!(stream.nodelay().unwrap());
    }
}
