//! Opens a session: connect, encrypt, greet, log in.

use std::{net::SocketAddr, time::Duration};

use lettre::transport::smtp::{
    authentication::{Credentials, Mechanism},
    client::AsyncSmtpConnection,
    commands::Auth,
    extension::ClientId,
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
    lent::Lent,
    session::{Fault, Session, accept, within},
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
        accept(
            Phase::Greeting,
            within(target.timeouts.greeting, Phase::Greeting, wire.hear()).await?,
        )?;
        if target.tls == Tls::Starttls {
            wire = starttls(wire, target).await?;
        }
        let lent = Lent::new(wire);
        let capabilities = greet(&lent, target).await?;
        let wire = lent.back().expect("lettre's connection is dropped");
        Ok(Session::new(wire, capabilities, target.timeouts))
    }
}

/// Lets lettre say EHLO and log in.
async fn greet(lent: &Lent, target: &Target) -> Result<Capabilities, Fault> {
    let limit = target.timeouts.hello;
    let refused = |phase, cause| Fault {
        phase,
        cause: lent.wire().refusal().map_or(cause, Cause::Reply),
    };
    // lettre takes the last reply heard, to the connection or to STARTTLS, for its greeting, and says EHLO
    let hello = AsyncSmtpConnection::connect_with_transport(Box::new(lent.clone()), &target.hello);
    let hello = timeout(limit, hello).await;
    let hello = hello.map_err(|_| refused(Phase::Hello, Cause::Timeout))?;
    let mut connection = hello.map_err(|error| refused(Phase::Hello, Cause::from(&error)))?;
    let capabilities = Capabilities::read(lent.wire().heard());
    if let Some((username, password)) = &target.credentials {
        let password = password.expose_secret().to_owned();
        let credentials = Credentials::new(username.clone(), password);
        let logged_in = log_in(&mut connection, capabilities.auth, limit, credentials).await;
        logged_in.map_err(|fault| refused(fault.phase, fault.cause))?;
    }
    Ok(capabilities)
}

/// Logs in step by step; lettre's own `auth` waits for a reply to QUIT after a refusal.
async fn log_in(
    connection: &mut AsyncSmtpConnection,
    offered: Option<Mechanism>,
    limit: Duration,
    credentials: Credentials,
) -> Result<(), Fault> {
    let fault = |cause| Fault {
        phase: Phase::Auth,
        cause,
    };
    let mechanism = offered.ok_or(fault(Cause::NotOffered))?;
    let mut command =
        Auth::new(mechanism, credentials.clone(), None).map_err(|e| fault(Cause::from(&e)))?;
    // LOGIN asks for the name, then for the password
    for challenges in 0.. {
        let response = timeout(limit, connection.command(command)).await;
        let response = response.map_err(|_| fault(Cause::Timeout))?;
        let response = response.map_err(|e| fault(Cause::from(&e)))?;
        if challenges == 2 || !response.has_code(334) {
            accept(Phase::Auth, Reply::from(&response))?;
            break;
        }
        let next = Auth::new_from_response(mechanism, credentials.clone(), &response);
        command = next.map_err(|e| fault(Cause::from(&e)))?;
    }
    Ok(())
}

/// Asks for encryption and shakes hands. What the relay offers in clear counts for nothing afterwards.
async fn starttls(mut wire: Wire, target: &Target) -> Result<Wire, Fault> {
    let limit = target.timeouts.hello;
    let hello = format!("EHLO {}\r\n", target.hello);
    accept(
        Phase::Hello,
        within(limit, Phase::Hello, wire.ask(&hello)).await?,
    )?;
    if !Capabilities::read(wire.heard()).starttls {
        return Err(Fault {
            phase: Phase::Tls,
            cause: Cause::NotOffered,
        });
    }
    accept(
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
